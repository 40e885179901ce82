"""Labelled questions about images, from a JSON-lines file.

One object per line: ``id``, ``image`` (a path, relative to the file's folder), ``question``,
``references`` (right answers), ``rule`` (one of :data:`~probes.labels.LABEL_RULES`), and for the
report ``kind`` (of question; the rule if left out) and ``slice`` (camera, line, ...; ``all``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image, ImageOps

from probes.errors import DataError
from probes.labels import LabelRule, is_wrong
from probes.types import ImageArray

_REQUIRED = ("id", "image", "question", "references", "rule")
_OPTIONAL = ("kind", "slice")
_MODES = ("RGB", "L", "P", "1")


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled question.

    Args:
        id: unique in its dataset.
        image_path: of the image file.
        question: as it is asked.
        references: right answers, at least one.
        kind: of question, for the report.
        slice: where it comes from, for the report.
        rule: how an answer is judged.
    """

    id: str
    image_path: Path
    question: str
    references: tuple[str, ...]
    kind: str
    slice: str
    rule: LabelRule


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that cannot be used: its line in the file, counted from 1, and why."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def load_jsonl(path: Path) -> tuple[tuple[Example, ...], tuple[Problem, ...]]:
    """Read a dataset: the usable records, and one problem per line that is not.

    Raises DataError when the file cannot be read at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    examples: list[Example] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            example = _parse(line, path.parent)
            if example.id in seen:
                raise DataError(f"id: {example.id!r} stands on line {seen[example.id]} already")
        except DataError as error:
            problems.append(Problem(number, str(error)))
            continue
        seen[example.id] = number
        examples.append(example)
    return tuple(examples), tuple(problems)


def load_image(path: Path) -> ImageArray:
    """Decode an image to RGB, uint8, shape (height, width, 3), upright by its EXIF orientation.

    Raises DataError for what is not a plain 8-bit image: transparency, CMYK and 16 bits would have
    to be guessed at.
    """
    try:
        with Image.open(path) as opened:
            if opened.mode not in _MODES or "transparency" in opened.info:
                raise DataError(
                    f"image: {path.name} has mode {opened.mode}; convert it to 8-bit RGB or grey"
                )
            upright = ImageOps.exif_transpose(opened)
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image: {path.name} cannot be decoded ({error})") from error


def _parse(line: str, folder: Path) -> Example:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DataError("not a JSON object")
    for name in record:
        if name not in (*_REQUIRED, *_OPTIONAL):
            raise DataError(f"{name}: unknown field; use {', '.join((*_REQUIRED, *_OPTIONAL))}")
    rule = _text(record, "rule")
    if rule not in get_args(LabelRule):
        raise DataError(f"rule: {rule!r} is none of {', '.join(get_args(LabelRule))}")
    references = record.get("references")
    if not isinstance(references, list) or not all(isinstance(one, str) for one in references):
        raise DataError("references: give a list of strings")
    is_wrong("", references, rule)  # raises DataError when they cannot judge an answer
    image_path = folder / _text(record, "image")
    if not image_path.is_file():
        raise DataError(f"image: {record['image']} does not exist beside the dataset")
    return Example(
        id=_text(record, "id"),
        image_path=image_path,
        question=_text(record, "question"),
        references=tuple(references),
        kind=_text(record, "kind") if "kind" in record else rule,
        slice=_text(record, "slice") if "slice" in record else "all",
        rule=rule,
    )


def _text(record: dict[str, Any], name: str) -> Any:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{name}: missing or not a text; give a string that is not blank")
    return value
