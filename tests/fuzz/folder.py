"""Where readers of files get theirs: in memory where the machine has such a folder."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

IN_MEMORY = Path("/dev/shm")


@cache
def folder() -> Path:
    """This process's own, until it ends."""
    made = tempfile.mkdtemp(prefix="fuzz-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)
