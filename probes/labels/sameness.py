"""Decides whether two answers to one question say the same, without knowing the question's rule."""

from __future__ import annotations

import re
from collections.abc import Callable

from probes.labels.abstention import abstains
from probes.labels.amount import one_amount
from probes.labels.numerals import Quantity, quantities
from probes.labels.text import match_form, spoken
from probes.labels.yes_no import parse_yes_no, says_yes_no

NOTHING = ""
"""The form of an answer that gives none."""
_DIGITS = tuple("0123456789")
_PADDED = re.compile(r"(?<![\w.,])0\d")
"""A name written in digits, such as 007."""


def answer_form(answer: str) -> Callable[[str], str]:
    """Return a function from an answer to its form; answers of equal form say the same.

    The given answer decides how to read the others: as yes or no where it begins with that word by
    itself, as a number where it is one, else as the rule ``match`` reads them. So "Yes, there is"
    is "yes", "two" is "2", and "No parking" is not "No stopping".

    >>> form = answer_form("two")
    >>> form("2") == form("There are two.") == form("two") != form("3")
    True
    """
    said = spoken(answer)
    if says_yes_no(said):
        return lambda other: _form(other, _yes_no)
    if (quantity := _bare_quantity(match_form(said))) is not None:
        unit = quantity.unit
        return lambda other: _form(other, lambda text: _number(text, unit))
    return lambda other: _form(other, None)


def _form(answer: str, read: Callable[[str], str] | None) -> str:
    said = spoken(answer)
    if abstains(said):
        return NOTHING
    words = match_form(said)
    if read is not None and (found := read(said)):
        return found
    return f"{words} ?" if words and "?" in said else words  # "No?" and "3?" are not "no" and "3"


def _bare_quantity(form: str) -> Quantity | None:
    """A number with at most one word behind it."""
    words, found = form.split(), quantities(form)
    bare = len(words) <= 2 and len(found) == 1 and quantities(words[0])
    return found[0] if bare and not _PADDED.search(form) else None


def _number(text: str, unit: str) -> str:
    """The one number, as rule ``number`` reads it, among plain words: "gate A 5" is not "5".

    Where the given answer has no unit, only one that makes another number of it counts, as in
    "5 %"; where it has one, a number without means the same.
    """
    form = match_form(text)
    found, words = one_amount(text), form.split()
    plain = all(len(word) > 1 and word.isalpha() for word in words if word[-1:] not in _DIGITS)
    if found is None or not quantities(form) or _PADDED.search(form):
        return NOTHING
    if found.scale or found.scale != Quantity(found.value, unit).scale:
        return str(found)
    if not (plain or unit):
        return NOTHING
    return str(Quantity(found.value, (found.unit or unit) if unit else ""))


def _yes_no(text: str) -> str:
    """As :func:`parse_yes_no`, but "No parking" may be a sign's words."""
    words = match_form(text).split()
    return NOTHING if words[:1] == ["no"] and not says_yes_no(text) else parse_yes_no(text)
