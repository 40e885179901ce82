"""Labelled questions about images of one's own, as JSON lines or as CSV.

``image`` (its name in the images' folder or archive), ``question`` and ``answers`` (right ones)
must be there; ``references`` is another name for ``answers``. ``slice`` (camera, line, ...) is
``all`` and ``kind`` (of question) the rule's name if left out, and ``id`` tells the line. ``group``
names the scene, part or batch that the image shows, where several images show one. ``rule``
(one of :data:`~probes.labels.LABEL_RULES`) is ``yes_no`` if left out where every answer is "yes" or
"no", and ``match`` elsewhere. In JSON answers are a list; in CSV they stand in one cell, split
by ``|``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from probes.datasets.example import Example, Found, Loaded, gather, image, text
from probes.datasets.lines import read_bytes, read_lines
from probes.errors import DataError
from probes.labels import LABEL_RULES, LabelRule, is_wrong

COLUMNS = ("image", "question", "answers", "slice", "id", "rule", "kind", "group")
_REQUIRED = ("image", "question", "answers")


def load_jsonl(path: Path) -> Loaded:
    """Read JSON lines whose images lie beside the file.

    Raises DataError when the file cannot be read at all.
    """
    return gather(read_jsonl(path, path.parent))


def read_jsonl(path: Path, images: Path) -> Found:
    """One JSON object per line."""
    return read_lines(path, partial(_example, images))


def read_csv(path: Path, images: Path) -> Iterator[tuple[str, Example | DataError]]:
    """One record per row, commas between, columns named by the first row.

    A record is told by the line it begins on. Raises DataError when the columns do not fit.
    """
    content = read_bytes(path).decode("utf-8", errors="surrogateescape")
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        head = next(rows, [])
    except csv.Error as error:
        raise DataError(f"{path}: line 1: {error}") from error
    head = [name.strip() for name in head]
    _check_head(path, head)
    while True:
        line = rows.line_num + 1
        where = f"line {line}"
        try:
            row = next(rows)
            if any(cell.strip() for cell in row):
                yield where, _example(images, _record(head, row), line)
        except StopIteration:
            return
        except csv.Error as error:
            yield where, DataError(f"not CSV ({error}); double the quotes inside a quoted cell")
        except DataError as error:
            yield where, error


def _check_head(path: Path, head: list[str]) -> None:
    for name in head:
        if name not in COLUMNS:
            raise DataError(f"{path}: column {name!r} is none of {', '.join(COLUMNS)}")
        if head.count(name) > 1:
            raise DataError(f"{path}: column {name!r} stands twice")
    for name in _REQUIRED:
        if name not in head:
            raise DataError(f"{path}: has no column {name!r}; name the columns in the first line")


def _record(head: list[str], row: list[str]) -> dict[str, Any]:
    """Blank cells count as left out."""
    if len(row) != len(head):
        raise DataError(f"has {len(row)} cells for {len(head)} columns; quote cells with commas")
    if any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
        raise DataError("not UTF-8 text")
    record: dict[str, Any] = {
        name: cell for name, cell in zip(head, row, strict=True) if cell.strip()
    }
    if "answers" in record:
        record["answers"] = [part.strip() for part in record["answers"].split("|")]
    return record


def _example(images: Path, record: Mapping[str, Any], line: int) -> Example:
    for name in record:
        if name not in (*COLUMNS, "references"):
            raise DataError(f"{name}: unknown field; use {', '.join(COLUMNS)}")
    references = _answers(record)
    rule = _rule(record, references)
    is_wrong("", references, rule)  # raises DataError when they cannot judge an answer
    return Example(
        id=text(record, "id") if "id" in record else f"line-{line}",
        image_path=image(images, text(record, "image")),
        question=text(record, "question"),
        references=references,
        kind=text(record, "kind") if "kind" in record else rule,
        slice=text(record, "slice") if "slice" in record else "all",
        rule=rule,
        group=text(record, "group") if "group" in record else None,
    )


def _answers(record: Mapping[str, Any]) -> tuple[str, ...]:
    if "answers" in record and "references" in record:
        raise DataError("references: another name for answers; give one of them")
    name = "references" if "references" in record else "answers"
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise DataError(
            f"{name}: missing or no list of texts; give right answers that are not blank"
        )
    return tuple(found)


def _rule(record: Mapping[str, Any], references: tuple[str, ...]) -> LabelRule:
    if "rule" not in record:
        plain = {one.strip().lower() for one in references}
        return "yes_no" if plain in ({"yes"}, {"no"}) else "match"
    name = text(record, "rule")
    for rule in LABEL_RULES:
        if name == rule:
            return rule
    raise DataError(f"rule: {name!r} is none of {', '.join(LABEL_RULES)}")
