"""Writes a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""End of the name of a file that is being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a draft beside ``path``, which takes the file's place when the block ends.

    The block creates the draft. If it raises, the draft is removed and the file stays as it was;
    a draft that a killed process left is removed before. One process at a time may write a file.

    Raises OSError when the draft cannot be written to disk or put in place.
    """
    draft = path.with_name(f".{path.name}{PART}")
    draft.unlink(missing_ok=True)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
