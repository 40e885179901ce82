"""What one answer shows of its own reliability, signal by signal."""
