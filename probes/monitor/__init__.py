"""What watches a promise while the service runs: audits, the error rate, drift, ranking."""
