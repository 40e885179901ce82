"""Reads tables as spreadsheets and scripts write them: CSV with commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping

from probes.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SEPARATOR = re.compile(r'"?sep=(.)"?(\r\n|\r|\n|$)', re.IGNORECASE)
"""A first line that names the delimiter to Excel."""
Row = Mapping[str, str] | DataError


def read_sheet(
    content: str, columns: Collection[str], required: Collection[str]
) -> Iterator[tuple[int, Row]]:
    """Each row that is not blank: the line it begins on, and its cells by column, blank ones left
    out, or what is wrong with it.

    Columns are named by the first row that is not blank, in small or capital letters.

    Raises DataError when the columns do not fit.
    """
    delimiter, skipped = _delimiter(content, columns)
    rows = csv.reader(
        io.StringIO(content, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    try:
        for _ in range(skipped):
            next(rows)
        head = next((row for row in rows if any(map(str.strip, row))), [])
    except csv.Error as error:
        raise DataError(f"line {rows.line_num}: {error}") from error
    head = _names(head)
    _check_head(head, columns, required, max(rows.line_num, 1))
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
            if any(map(str.strip, row)):
                yield line, _cells(head, row, delimiter)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, DataError(f"not CSV ({error}); double the quotes inside a quoted cell")
        except DataError as error:
            yield line, error


def _delimiter(content: str, columns: Collection[str]) -> tuple[str, int]:
    """Return the delimiter, and how many lines do nothing but name it.

    Where no line names it, take the one that finds most of the columns' names in the first line.
    """
    told = _SEPARATOR.match(content)
    if told is not None:
        if told[1] not in DELIMITERS:
            raise DataError(f"line 1: sep={told[1]}: use {_listed()}")
        return told[1], 1
    first = next(filter(str.strip, content.splitlines()), "")

    def known(delimiter: str) -> int:
        cells = (cell.strip('" ') for cell in first.split(delimiter))
        return sum(name in columns for name in _names(list(cells)))

    return max(DELIMITERS, key=known), 0


def _names(head: list[str]) -> list[str]:
    """Return the columns' names in lower case, without blank ones at the end."""
    names = [name.strip().casefold() for name in head]
    while names and not names[-1]:
        names.pop()
    return names


def _check_head(
    head: list[str], columns: Collection[str], required: Collection[str], line: int
) -> None:
    for name in head:
        if name not in columns:
            raise DataError(
                f"line {line}: column {name!r} is none of {', '.join(columns)}; name the columns "
                f"in the first line, separated by {_listed()}"
            )
        if head.count(name) > 1:
            raise DataError(f"line {line}: column {name!r} stands twice; remove one")
    for name in required:
        if name not in head:
            raise DataError(
                f"line {line}: has no column {name!r}; name the columns in the first line"
            )


def _cells(head: list[str], row: list[str], delimiter: str) -> Row:
    while len(row) > len(head) and not row[-1].strip():
        row.pop()
    if len(row) != len(head):
        raise DataError(
            f"has {len(row)} cells for {len(head)} columns; quote cells with "
            f"{DELIMITERS[delimiter]}"
        )
    if any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
        raise DataError("not UTF-8 text; save the file as UTF-8")
    return {name: cell for name, cell in zip(head, row, strict=True) if cell.strip()}


def _listed() -> str:
    *most, last = DELIMITERS.values()
    return f"{', '.join(most)} or {last}"
