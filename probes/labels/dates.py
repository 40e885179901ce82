"""The calendar day, or month, that a text names."""

from __future__ import annotations

import datetime
import re
from typing import Literal

DateOrder = Literal["dmy", "mdy"]

_NAMES = (
    "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|"
    "september sept sep|october oct|november nov|december dec"
)
_MONTHS = {
    name: number
    for number, names in enumerate(_NAMES.split("|"), start=1)
    for name in names.split()
}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\.?"
_YEAR = r"(?P<year>\d{4})"
_EDGE = r"(?<![\w./-])", r"(?![\w/-])"
_FORMS = [
    re.compile(rf"{_EDGE[0]}{form}{_EDGE[1]}")
    for form in (
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?:t[\d:.z+-]*)?",
        r"(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)",
        rf"{_DAY}\s*(?:of\s+)?{_MONTH},?\s+{_YEAR}",
        rf"{_MONTH}\s+{_DAY},?\s+{_YEAR}",
        rf"{_MONTH},?\s+(?:of\s+)?{_YEAR}",
        r"(?P<first>\d{1,2})[-/.](?P<second>\d{1,2})[-/.](?P<year>\d{4}|\d\d)",
        r"(?P<year>\d{4})[-/](?P<month>\d{1,2})",
        r"(?P<month>\d{1,2})/(?P<year>\d{4})",
    )
]


def read_date(text: str, order: DateOrder | None = None) -> str:
    """The one date of a text as ``2025-04-03``, or ``2025-04`` for a month; "" for none or several.

    Args:
        order: of day and month where both are written as numbers; without it such a date is read
            only where one of them is above 12, or both are the same.

    >>> read_date("Best before April 3rd, 2025."), read_date("03/04/2025")
    ('2025-04-03', '')
    """
    left, found = text.casefold(), set[str]()
    for form in _FORMS:
        for match in form.finditer(left):
            found.add(_written(match, order))
        left = form.sub(" ", left)
    return found.pop() if len(found) == 1 else ""


def _written(match: re.Match[str], order: DateOrder | None) -> str:
    parts = match.groupdict()
    year = int(parts["year"]) + (2000 if len(parts["year"]) == 2 else 0)
    if "first" in parts:
        first, second = int(parts["first"]), int(parts["second"])
        days = {"dmy": {(second, first)}, "mdy": {(first, second)}}
        tried = days[order] if order else days["dmy"] | days["mdy"]
        read = {one for month, day in tried if (one := _day(year, month, day))}
        return read.pop() if len(read) == 1 else ""
    name = parts["month"]
    month = _MONTHS[name] if name in _MONTHS else int(name)
    if parts.get("day") is None:
        return f"{year:04d}-{month:02d}" if 1 <= month <= 12 else ""
    return _day(year, month, int(parts["day"]))


def _day(year: int, month: int, day: int) -> str:
    try:
        return datetime.date(year, month, day).isoformat()
    except ValueError:
        return ""
