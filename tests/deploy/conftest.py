"""Load tests as a person runs them: a script of deploy/loadtest, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loadtest() -> Callable[..., Any]:
    """Runs a script by its name with options, and returns the JSON that it prints."""

    def run(name: str, *options: str) -> Any:
        done = subprocess.run(
            [sys.executable, str(ROOT / "deploy" / "loadtest" / name), *options],
            env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return run
