"""Signals judged side by side on the test split, and what must be said beside the numbers."""
