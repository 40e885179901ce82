"""A labelled question, and what a dataset's reader found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, TypeAlias

from probes.data.images import has_image
from probes.errors import DataError


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled question.

    Args:
        id: unique in its dataset.
        image_path: of the image, see :mod:`probes.data.images`.
        question: as it is asked.
        references: right answers, at least one.
        kind: of question, for the report.
        slice: where it comes from, for the report.
        rule: how an answer is judged, as :mod:`probes.labels.rule` writes it.
        where: it stands in its file, such as ``line 7``; empty where it stands in none.
        group: scene, part or batch that its image shows, whose answers stand and fall together;
            None where nobody named it.
    """

    id: str
    image_path: Path
    question: str
    references: tuple[str, ...]
    kind: str
    slice: str
    rule: str
    where: str = ""
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that cannot be used.

    Args:
        where: ``line 7`` of a file of lines, or ``question 7`` of a JSON array, counted from 1.
        message: the field, what is wrong with it, and what to do.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


Loaded: TypeAlias = tuple[tuple[Example, ...], tuple[Problem, ...]]
Found: TypeAlias = Iterable[tuple[str, Example | DataError]]
"""Where each record stands, and what it holds or why it cannot be used."""


def gather(found: Found) -> Loaded:
    """Collect usable records and problems in the file's order; a repeated id is a problem.

    Records with rule ``ignore`` are left out. Raises DataError when the file holds no other.
    """
    examples: list[Example] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for where, one in found:
        if isinstance(one, DataError):
            problems.append(Problem(where, str(one)))
        elif one.id in seen:
            problems.append(Problem(where, f"id: {one.id!r} stands on {seen[one.id]} already"))
        else:
            seen[one.id] = where
            if one.rule != "ignore":
                examples.append(replace(one, where=where))
    if not (examples or problems):
        raise DataError("dataset: holds no records to judge")
    return tuple(examples), tuple(problems)


def text(record: Mapping[str, Any], name: str) -> str:
    """Return a field that must be text and not blank."""
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{name}: missing or not a text; give a string that is not blank")
    return value


def number(record: Mapping[str, Any], name: str) -> int:
    """Return a field that must be a whole number, 0 or more."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{name}: missing or no whole number")
    return value


def image(images: Path, name: str) -> Path:
    """Return the path of a named image, which must exist; Windows' separators are understood."""
    path = images / name
    if "\\" in name and not has_image(path):
        if PureWindowsPath(name).drive:
            raise DataError(
                f"image: {name} is a path of one Windows machine; name the file as it lies below "
                f"{images.name or images}, such as {PureWindowsPath(name).name}"
            )
        path = images / name.replace("\\", "/")
    if not has_image(path):
        raise DataError(f"image: {name} does not exist in {images.name or images}")
    return path
