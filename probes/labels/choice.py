"""The option that an answer chooses, by its letter or its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from probes.labels.doubt import denies, hedges, without_questions
from probes.labels.text import match_form

Options = Sequence[tuple[str, str]]
"""Letter, empty where there is none, and text of each option."""

_ARTICLES = ("A", "I")
"""Letters that are words too, where another word follows."""
_LEAVES_OPEN = re.compile(
    r"\b(?:or|but|wrong|incorrect|false|unlikely|other than|rather than|instead of|anything|except|"
    r"neither|either|both|all of|any of|0 of|exclud\w+|rul\w+ out|wait|actually|oder|ou|sondern)\b"
)
_NAMES = r"(?:(?:^|\b(?:option|choice|answer|letter) ){letter}|\b{text}(?: (?:1|option))?)"
_REMARK = (
    r" (?:is|was|are|were|has|had|does|did|looks?|looked|seems?|seemed|appears?|gets?|got|fails?|"
    r"can|could|should|would|will|might|must|eliminated|discarded)\b"
    r"(?! (?:(?:my|best|final|only|most|likely|probably|clearly|definitely|indeed) )*"
    r"(?:correct|right|true|answer|option|choice|1|best|it|shown|visible|present|colou?r|chosen)\b)"
)
"""What is said of an option, "Option A is too dark", but for "A is the right answer"."""


def option_of(text: str, options: Options) -> str:
    """Return the option that the whole text is: its letter, or its text without one; or ""."""
    form = match_form(text)
    for letter, option in options:
        if form in ({match_form(letter)} - {""}) | {match_form(option)}:
            return _name((letter, option))
    return ""


def read_choice(text: str, options: Options) -> str:
    """Return the one option of an answer, as :func:`option_of` names it; "" for none or several.

    A letter counts at the beginning ("B) blue", "(b)") or behind the word option; a text counts
    anywhere. Letter and text must not contradict each other, no other letter may stand in the
    answer, and beside the options' own words nothing may deny, weigh or guess.

    >>> read_choice("(B) blue", [("A", "red"), ("B", "blue")])
    'B'
    >>> read_choice("A) blue", [("A", "red"), ("B", "blue")])
    ''
    """
    said = without_questions(text)
    letters = {at for at, (one, _) in enumerate(options) if _has_letter(one, said)}
    if not letters and (whole := option_of(said, options)):
        return whole
    beside = _beside(match_form(said), options)
    if denies(beside) or _LEAVES_OPEN.search(beside) or hedges(beside):
        return ""
    found = letters | _named(match_form(said), options)
    if any(_is_remarked(options[at], match_form(said)) for at in found):
        return ""
    others = {at for at, (one, _) in enumerate(options) if _mentions(one, said, options)}
    return _name(options[found.pop()]) if len(found) == 1 and others <= found else ""


def _is_remarked(option: tuple[str, str], form: str) -> bool:
    letter, text = (re.escape(match_form(one)) or r"(?!)" for one in option)
    return re.search(_NAMES.format(letter=letter, text=text) + _REMARK, form) is not None


def _beside(form: str, options: Options) -> str:
    """What an answer says beside the options' texts."""
    for text in sorted((match_form(text) for _, text in options), key=len, reverse=True):
        form = f" {form} ".replace(f" {text} ", " ").strip()
    return form


def _mentions(letter: str, text: str, options: Options) -> bool:
    """The letter as a word, but for one within an option's text and for the article A."""
    if not letter:
        return False
    for option in sorted((option for _, option in options), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(option)}(?!\w)", " ", text, flags=re.IGNORECASE)
    article = r"(?!\s+(?!or\b|and\b|is\b)[a-z])" if letter in _ARTICLES else ""
    return re.search(rf"(?<!\w){re.escape(letter)}(?!\w){article}", text) is not None


def _named(form: str, options: Options) -> set[int]:
    """The options whose text stands in an answer."""
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
    """The letter by itself; in lower case only with a mark, so that the article "a" is none."""
    if not letter:
        return False
    one = re.escape(letter)
    alone = re.match(rf"\W*{one}\s*(?:[.):\]]|\W*$|\W*\n)", text)
    marked = re.match(rf"\W*(?:[(\[]{one}[)\]]|{one}\s?[):\]]|{one}\.?\W*$)", text, re.IGNORECASE)
    named = r"\b(?i:option|choice|answer|letter)\s*:?\s+(?i:is\s+)?\W*"
    behind = re.search(rf"{named}(?:{one}(?!\w)|(?i:{one})(?=\W*$|[).:\]]))", text)
    return bool(alone or marked or behind)
