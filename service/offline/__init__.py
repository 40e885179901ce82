"""Commands that serve nobody: replay, recertify, rebind, plan, bench."""
