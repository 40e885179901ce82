"""A table of text, its Markdown, and intervals as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text; the notes say how to read it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def to_markdown(table: Table) -> str:
    """Title, notes and rows as GitHub-flavoured Markdown."""
    lines = [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows)]
    return "\n\n".join([f"## {table.title}", *table.notes, "\n".join(lines)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def format_interval(
    value: Mapping[str, Any] | None, *, percent: bool = False, signed: bool = False
) -> str:
    """Format as ``0.712 [0.690, 0.735]``, or why it is missing, or ``-`` where none belongs."""
    if value is None:
        return "-"
    if "missing" in value:
        return f"missing: {value['missing']}"
    form = ".1%" if percent else ("+.3f" if signed else ".3f")
    middle, low, high = (format(value[key], form) for key in ("estimate", "lower", "upper"))
    return f"{middle} [{low}, {high}]"
