"""The option that an answer chooses, by its letter or its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from probes.labels.text import match_form

Options = Sequence[tuple[str, str]]
"""Letter, empty where there is none, and text of each option."""

_BRACKETS = r"[(\[]?{0}[)\]]?"
_NEGATIONS = frozenset(("no", "not", "none", "nor", "neither", "never", "isnt", "arent", "cannot"))


def option_of(text: str, options: Options) -> str:
    """The option that a text is, as a whole: its letter, or its text where it has none; or ""."""
    form = match_form(text)
    for letter, option in options:
        if form in ({match_form(letter)} - {""}) | {match_form(option)}:
            return _name((letter, option))
    return ""


def read_choice(text: str, options: Options) -> str:
    """The one option of an answer, as :func:`option_of` names it; "" for none or several.

    A letter counts at the beginning ("B) blue", "(B)") or behind the word option; a text counts
    anywhere, unless the answer denies something. Letter and text must not contradict each other.

    >>> read_choice("(B) blue", [("A", "red"), ("B", "blue")])
    'B'
    >>> read_choice("A) blue", [("A", "red"), ("B", "blue")])
    ''
    """
    letters = {at for at, (one, _) in enumerate(options) if _has_letter(one, text)}
    found = letters | _named(match_form(text), options)
    if len(found) != 1:
        return option_of(text, options) if not letters else ""
    return _name(options[found.pop()])


def _named(form: str, options: Options) -> set[int]:
    """The options whose text stands in an answer that denies nothing."""
    if _NEGATIONS & set(form.split()):
        return set()
    named = {at for at, (_, one) in enumerate(options) if _within(one, form)}
    # "dark red" names the option "red" only where it stands apart from the longer one.
    longer = {a for a in named for b in named if a != b and _within(options[a][1], options[b][1])}
    return named - longer


def _name(option: tuple[str, str]) -> str:
    letter, text = option
    return letter or match_form(text)


def _within(option: str, text: str) -> bool:
    return f" {match_form(option)} " in f" {match_form(text)} "


def _has_letter(letter: str, text: str) -> bool:
    """The letter as it is written, so that the article "a" is none."""
    if not letter:
        return False
    one = _BRACKETS.format(re.escape(letter))
    begins = re.match(rf"\s*\W*(?:{one}\s*(?:[.):\]]|$|\n)|[(\[]{re.escape(letter)}[)\]])", text)
    behind = re.search(rf"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+(?:is\s+)?{one}(?!\w)", text)
    return bool(begins or behind)
