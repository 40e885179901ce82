from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

COCO = ("COCO_val2014_000000310196.jpg", "COCO_val2014_000000262148.jpg")

WriteLines = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images under COCO's names, and ``a.png``."""
    for level, name in enumerate((*COCO, "a.png")):
        Image.new("RGB", (4, 3), (10 * level, 20, 30)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def write_lines(folder: Path) -> WriteLines:
    """Write records, or lines as they are, to a file in the folder."""

    def write(name: str, records: Sequence[Any]) -> Path:
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
        (folder / name).write_bytes(b"\n".join(lines) + b"\n")
        return folder / name

    return write
