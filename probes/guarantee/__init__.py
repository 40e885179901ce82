"""The promise on accepted answers: tested, certified, simulated, and its tries counted."""
