"""One caller attacks, another asks: in short, and with bounds for a busy machine."""

from __future__ import annotations


def test_the_largest_bodies_keep_nobody_else_out(loadtest):
    """Before, the event loop stood for seconds; `make neighbours` has the real bounds."""
    attacked = loadtest("neighbours.py", "--seconds", "2", "--attack", "large")["attacked"]
    assert attacked["refused"] == 0
    assert attacked["answers"] > 0
    assert attacked["health_worst_ms"] < 1_000
