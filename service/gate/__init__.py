"""From an admitted question to a decision and its record."""
