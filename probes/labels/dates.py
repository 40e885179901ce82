"""The calendar day, or month, that a text names."""

from __future__ import annotations

import datetime
import re
from typing import Literal

from probes.labels.doubt import alternatives, hedges, without_accents, without_questions

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
_CONTRACTED = re.compile(r"n['’]t\b")
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


# The words on a package, which say of its date what it is.
_USED = "use|used|sell|sold|consume|consumed|eat|drink"
_PRINTED = re.compile(
    r"\b(?:"
    + alternatives(
        rf"""(?:do )?not (?:to be )?(?:{_USED}|valid) (?:if )?(?:after|past|beyond)|
        (?:best|{_USED}|enjoy|display|freeze|keeps?|discard|good|fresh|safe|valid|expir\w*|exp)
        (?:if )?(?:\w+ )?(?:before|by|until|till|through|after|on)(?:\send)?|
        (?:mindestens )?haltbar bis|(?:zu )?verbrauchen bis|gultig bis|
        consommer (?:de preference )?(?:avant|jusqu\w*)|
        consumir (?:preferentemente )?antes d\w+|
        consumar\w* (?:preferibilmente )?(?:entro|prima d\w+)"""
    )
    + r")\b"
)
_RELATIVE = re.compile(
    r"\b(?:"
    + alternatives(
        r"""not|never|before|after|by|until|till|since|from|unless|wrong|incorrect|false|untrue|
        plus|minus|bce?|ago|yesterday|today|tomorrow|made (?:\w+ )?up|invented|start\w*|begin\w*|or|
        either|between|earlier|later|latest|
        earliest|prior|through|onwards?|around|approximately|circa|roughly|than|within|past|except|
        (?:\d+|an?|one|two|three|few|several) (?:\w+ )?(?:days?|weeks?|months?|years?)|
        (?:day|week|month|year)s? (?:from|of)|
        nicht|vor|nach|bis|seit|ab|oder|zwischen|avant|apres|jusqu\w*|depuis|ou|antes|despues|
        desde|hasta|prima|dopo|dal|entro|depois|ate|na|tot|sinds|voor|przed|po|od|lub"""
    )
    + r")\b|[<>≤≥~≈±]|之前|以前|以後|之后|以降|まで"
)
_NAMED = _MONTH.replace("?P<month>", "?:")
_JOINED = "(?:[-–—/&+]|to|and|und|et|y|e)"
_BESIDE = re.compile(
    rf"\d(?:st|nd|rd|th)?\.? ?(?:of )?{_NAMED}\b|\b{_NAMED} ?\d|"
    rf"\d(?:st|nd|rd|th)?\.? ?{_JOINED} ?§|§ ?{_JOINED} ?\d|§.*(?<!\d)(?:19|20)\d\d(?!\d)"
)
"""Another day or year beside the date, as in "3-5 April 2025"; § stands for the date."""


def read_date(text: str, order: DateOrder | None = None) -> str:
    """Return the date of a text, ``2025-04-03`` or ``2025-04``; "" for none or several.

    "Not", "before", "since" and the like name another day, but for what packages print, such as
    "best before".

    Args:
        order: of day and month where both are written as numbers; without it such a date is read
            only where one of them is above 12, or both are the same.

    >>> read_date("Best before April 3rd, 2025."), read_date("03/04/2025")
    ('2025-04-03', '')
    """
    left, found = without_questions(text).casefold(), set[str]()
    for form in _FORMS:
        for match in form.finditer(left):
            found.add(_written(match, order))
        left = form.sub(" § ", left)
    beside = " ".join(_CONTRACTED.sub(" not", without_accents(left)).split())
    plain = _PRINTED.sub(" ", re.sub(r"[^\w§<>≤≥~≈±]+", " ", beside))
    if len(found) != 1 or _BESIDE.search(beside) or _RELATIVE.search(plain) or hedges(plain):
        return ""
    return found.pop()


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
