"""POPE, as published: ``coco_pope_{random,popular,adversarial}.json``, one JSON object per line.

Li et al. 2023 (arXiv 2305.10355). A line holds ``question_id`` (number), ``image`` (such as
``COCO_val2014_000000310196.jpg``), ``text`` (the question) and ``label`` (yes or no). How the
objects asked for were drawn stands in the file's name; it becomes the slice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from probes.data.datasets.example import Example, Found, image, number, text
from probes.data.datasets.lines import read_lines
from probes.errors import DataError

STRATEGIES = ("random", "popular", "adversarial")


def read_pope(path: Path, images: Path) -> Found:
    """Read one file, which holds one strategy. Raises DataError when its name gives none."""
    named = [one for one in STRATEGIES if re.search(rf"(?<![a-z]){one}(?![a-z])", path.name)]
    if len(named) != 1:
        raise DataError(f"{path.name}: name it by its strategy, one of {', '.join(STRATEGIES)}")
    return read_lines(path, partial(_example, images, named[0]))


def _example(images: Path, strategy: str, record: Mapping[str, Any], _line: int) -> Example:
    label = text(record, "label").strip().lower()
    if label not in ("yes", "no"):
        raise DataError(f"label: {label!r} is neither yes nor no")
    return Example(
        id=f"{strategy}-{number(record, 'question_id')}",
        image_path=image(images, text(record, "image")),
        question=text(record, "text"),
        references=(label,),
        kind="presence",
        slice=strategy,
        rule="yes_no",
    )
