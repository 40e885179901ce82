"""Reads a site's own labelled questions from JSON lines or CSV.

``image`` (its name in the images' folder or archive), ``question`` and ``answers`` (right ones)
must be there; ``references`` is another name for ``answers``. ``slice`` (camera, line, ...) is
``all`` and ``kind`` (of question) the rule's name if left out, and ``id`` tells the line. ``group``
names the scene, part or batch that the image shows, where several images show one. ``rule``
(:mod:`probes.labels.rule`: a name, or an object with parameters) is ``match`` if left out, whatever
the answers are; ``aliases`` are texts that mean another one. In JSON answers are a list; in CSV
they stand in one cell, split by ``|``, and a rule's object and the aliases are JSON in their cells.
Both may be UTF-8, or UTF-16 with a byte order mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from probes.data.datasets.example import Example, Found, image, text
from probes.data.datasets.lines import read_bytes, read_lines
from probes.data.datasets.sheet import Row, read_sheet
from probes.errors import DataError
from probes.labels import check_references
from probes.labels.rule import Rule, parse_rule

COLUMNS = ("image", "question", "answers", "slice", "id", "rule", "kind", "aliases", "group")
_REQUIRED = ("image", "question", "answers")


def read_jsonl(path: Path, images: Path) -> Found:
    """Read a file of one JSON object per line."""
    return read_lines(path, partial(_example, images))


def read_csv(path: Path, images: Path) -> Iterator[tuple[str, Example | DataError]]:
    """Read a table with one record per row (:mod:`probes.data.datasets.sheet`).

    A problem names the line on which its record begins. Raises DataError for wrong columns.
    """
    content = read_bytes(path).decode("utf-8", errors="surrogateescape")
    try:
        for line, row in read_sheet(content, COLUMNS, _REQUIRED):
            yield f"line {line}", _of_row(images, row, line)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _of_row(images: Path, row: Row, line: int) -> Example | DataError:
    if isinstance(row, DataError):
        return row
    try:
        return _example(images, _record(row), line)
    except DataError as error:
        return error


def _record(row: Mapping[str, str]) -> dict[str, Any]:
    """Return a row's cells as JSON would hold them."""
    record: dict[str, Any] = dict(row)
    if "aliases" in record:
        try:
            record["aliases"] = json.loads(record["aliases"])
        except (ValueError, RecursionError) as error:
            raise DataError(f'aliases: not JSON ({error}); write {{"two": ["a pair"]}}') from error
    if "answers" in record:
        record["answers"] = [part.strip() for part in record["answers"].split("|")]
    return record


def _example(images: Path, record: Mapping[str, Any], line: int) -> Example:
    for name in record:
        if name not in (*COLUMNS, "references"):
            raise DataError(f"{name}: unknown field; use {', '.join(COLUMNS)}")
    rule = _rule(record)
    references = _answers(record)
    if rule.name != "ignore":
        check_references(references, rule)
    return Example(
        id=text(record, "id") if "id" in record else f"line-{line}",
        image_path=image(images, text(record, "image")),
        question=text(record, "question"),
        references=references,
        kind=text(record, "kind") if "kind" in record else rule.name,
        slice=text(record, "slice") if "slice" in record else "all",
        rule=rule.text,
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


def _rule(record: Mapping[str, Any]) -> Rule:
    rule = record.get("rule", "match")
    if not isinstance(rule, str | Mapping):
        raise DataError(
            'rule: give a name, or an object such as {"rule": "number", "tolerance": 1}'
        )
    return parse_rule(rule, record.get("aliases"))
