"""The shapes at the edge: what a request may say, and what a response says."""
