"""The papers' comparison, by one command."""
