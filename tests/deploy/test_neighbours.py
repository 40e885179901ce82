"""One caller attacks, another asks: in short, and with bounds for a busy machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "loadtest" / "neighbours.py"


def test_the_largest_bodies_keep_nobody_else_out():
    """Before, the event loop stood for seconds; `make neighbours` has the real bounds."""
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds", "2", "--attack", "large"],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.stdout, run.stderr
    attacked = json.loads(run.stdout)["attacked"]
    assert attacked["refused"] == 0
    assert attacked["answers"] > 0
    assert attacked["health_worst_ms"] < 1_000
