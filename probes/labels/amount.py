"""The one number that a text gives: not a bound, not one of several, not a part's name."""

from __future__ import annotations

import re
from decimal import Decimal

from probes.labels.doubt import (
    alternatives,
    denies,
    hedges,
    without_accents,
    without_questions,
    words_of,
)
from probes.labels.numerals import Quantity, quantities
from probes.labels.text import match_form

_COMPARED = alternatives(
    r"""more|less|fewer|than|least|most|minimum|maximum|min|max|almost|nearly|barely|hardly|or|
    either|between|exceed\w*|upwards?|onwards?|limit|twice|double|triple|dozens|half|halves|
    quarters?|thirds?|tops|plus|additional|another|extra|few|several|as (?:many|few|much|little)|
    in excess|north of|but|except|excluding|doubt|wrong|cube|root|sqrt|log|
    mehr|weniger|mindestens|wenigstens|hochstens|maximal|oder|zwischen|knapp|anderthalb|halb\w*|
    moins|jusqu\w*|presque|ou|entre|demie?|mas|menos|hasta|casi|medi[oa]|
    piu|meno|almeno|fino|quasi|mezz[oa]|mais|pelo|ate|mei[oa]|
    meer|minder|minstens|hoogstens|tussen|bijna|wiecej|mniej|najmniej|ponad|prawie|lub"""
)
_BEFORE = "over|under|above|below|beyond|within|until|till|before|after|up to|down to|from|past"
_BEFORE_TOO = "uber|unter|bis|sous"
_BEHIND = "over|above|up|below|under|beyond|counting|a"
_BOUND = re.compile(
    rf"\b(?:{_COMPARED})\b|"
    rf"\b(?:{_BEFORE}|{_BEFORE_TOO}) (?:(?:the|a|about|to|total of) )*-?\d|"
    rf"\d(?: \w+)? (?:and|und|et|y|e|en) (?:{_BEHIND})\b|\d ?\+(?!\w)|[<>±√≤≥≦≧≠≮≯⩽⩾→]|"
    r"\b(?:no|nr|num) -?\d|# ?\d|"  # a name: "No. 3"
    "至少|最多|最少|以上|以下|以内|以內|超[过過]|[未不]满|不足|不到|少なくとも|未満"
)
_NOT_A_NUMBER = re.compile(
    r"-?\d+(?:[.,]\d+)?(?:/\d+|e\d+)|\d+(?:st|nd|rd|th|er|eme|º|ª)", re.IGNORECASE
)
"""Fractions, powers of ten and ordinals: words that begin as a number and are none."""
_RATE = re.compile(r"(?<=[^\W\d])/(?=[^\W\d])")
_SCALED = re.compile(r"\d ?\^|\d ?[x×*·] ?10\b|10 ?(?:\^|\*\*)|(?<=\d)\s*!\s*=")
_NOTHING_COUNTED = words_of(
    """more less longer fewer one doubt idea clue way answer information info data image images
    picture pictures photo photos question comment problem context evidence detail details view
    number count response result opinion access end matter wonder good"""
)
"""Behind "no" these are not what was counted: "no more", "no data"."""


def one_amount(text: str) -> Quantity | None:
    """The number of a text with its unit; "no screws" is 0.

    None where there is none or several, and where the number is a bound ("at least 3", "3 or more",
    "3+"), denied ("not 3"), a name ("No. 3"), a fraction or an ordinal, or a mere guess. "About 3"
    is 3.

    >>> one_amount("There are three screws."), one_amount("more than 3")
    (Quantity(value=Decimal('3'), unit='screws'), None)
    """
    said = _RATE.sub(" per ", without_questions(text))
    form = match_form(said)
    found, words = quantities(form), form.split()
    if hedges(said) or _BOUND.search(without_accents(form)) or _SCALED.search(said.casefold()):
        return None
    if any(_NOT_A_NUMBER.fullmatch(word) for word in words):
        return None
    if not found:
        return Quantity(Decimal(0)) if _counts_nothing(words) else None
    if denies(form) or len({one.value for one in found}) > 1:
        return None
    return found[0]


def _counts_nothing(words: list[str]) -> bool:
    """Whether the one negation is "no" before what was counted."""
    if words.count("no") != 1 or denies(" ".join(word for word in words if word != "no")):
        return False
    behind = words[words.index("no") + 1 :]
    return bool(behind) and behind[0].isalpha() and behind[0] not in _NOTHING_COUNTED
