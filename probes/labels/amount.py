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
_CLAUSE = re.compile(r"[;:!?()\[\]\"“”*\n]+|[.,](?!\d)|\s[-–—]\s|—")
_LEADS = words_of(
    """is are was were be been has have had got see sees saw count counted counts counting find
    found spot spotted detect detected notice noticed observe show shows showing displays display
    read
    reads say says think believe estimate measure measures measured weighs weigh costs contain
    contains containing include includes including hold holds with equal equals total totals
    totaling of about around approximately approx roughly circa ca exactly precisely only just
    probably likely all these those there here theres its it thats that theyre visible answer so
    thus therefore hence also still now like as altogether overall minus negative = ~ + $ € £ ¥ ₹
    sind ist hat haben gibt es sehe etwa ungefahr rund genau nur insgesamt zahle ein
    a ai y sont est environ exactement seulement vois compte hay son tiene veo unos unas solo
    aproximadamente exactamente sono e ha vedo ci solamente sao tem vejo cerca de zijn er zie heeft
    ongeveer precies jest sa widze okolo dokladnie"""
)
"""What stands before a count; behind another word a number is a name: "page 3", "Zone 3"."""
_SUMS = re.compile(r"\b(?:equal|amounts?|comes?|adds? up|sums?|up) to$")
_UNNAMED = words_of(
    """am pm oclock ish off each moment moments d o tone fold pointed sided way and to too me us it
    its he she we they you i this should would could will can may might must do does did if when
    while says said shows means stands reason reasons point interest"""
)
"""Behind a number these are nothing that was counted: "3 pm", "One should look"."""
_NOT_OF = re.compile(
    r"^(?:of (?:us|you|freedom)|in on|is (?!(?:answer|number|count|total|visible)\b)\w)"
)
_MEGA = re.compile(r"\d\s?(M(?:m|g|s|A|V|W|Pa|N|J|Ω))(?!\w)")
"""Units of which a capital makes another one: 3 Mm are not 3 mm."""
_SCALED = re.compile(r"\d ?\^|\d ?[x×*·] ?10\b|10 ?(?:\^|\*\*)|(?<=\d)\s*!\s*=")
_NOTHING_COUNTED = words_of(
    """more less longer fewer one doubt idea clue way answer information info data image images
    picture pictures photo photos question comment problem context evidence detail details view
    number count response result opinion access end matter wonder good"""
)
"""Behind "no" these are not what was counted: "no more", "no data"."""


def one_amount(text: str, reference: bool = False) -> Quantity | None:
    """Return the one number of a text with its unit; "no screws" is 0.

    None where there is none or several, and where the number is a bound ("at least 3", "3 or more",
    "3+"), denied ("not 3"), a name ("No. 3", "page 3"), a fraction or an ordinal, a time, or a mere
    guess. "About 3" is 3.

    Args:
        reference: whoever wrote "size 3" as the right answer means 3.

    >>> one_amount("There are three screws."), one_amount("more than 3")
    (Quantity(value=Decimal('3'), unit='screws'), None)
    """
    said = _RATE.sub(" per ", without_questions(text))
    form = match_form(said)
    found, words = quantities(form), form.split()
    if hedges(said) or _BOUND.search(without_accents(form)):
        return None
    if _SCALED.search(said.casefold()) or _SCALED.search(form):
        return None
    if any(_NOT_A_NUMBER.fullmatch(word) for word in words):
        return None
    if not found:
        return Quantity(Decimal(0)) if _counts_nothing(words) else None
    if denies(form) or len({one.value for one in found}) > 1:
        return None
    if not (reference or all(map(_counts, _CLAUSE.split(said)))):
        return None
    mega = _MEGA.search(said)
    return Quantity(found[0].value, mega.group(1)) if mega else found[0]


def _counts(clause: str) -> bool:
    """Whether the numbers of a clause stand where a count or a measure does."""
    words = without_accents(match_form(clause)).split()
    return all(
        _is_led(words[:at], words[at:]) and _is_followed(words[at:])
        for at, word in enumerate(words)
        if quantities(word)
    )


def _is_led(before: list[str], found: list[str]) -> bool:
    if not before or before[-1] in _LEADS or _SUMS.search(" ".join(before)):
        return True
    unit = quantities(" ".join(found))[0].unit
    return 0 < len(unit) <= 3 and unit not in _UNNAMED | _LEADS  # "width 3 mm"


def _is_followed(found: list[str]) -> bool:
    hung = quantities(found[0])[0].unit
    behind = " ".join([hung, *found[1:]] if hung else found[1:])
    return behind.split()[:1] == [] or not (behind.split()[0] in _UNNAMED or _NOT_OF.search(behind))


def _counts_nothing(words: list[str]) -> bool:
    """Whether the one negation is "no" before what was counted."""
    if words.count("no") != 1 or denies(" ".join(word for word in words if word != "no")):
        return False
    behind = words[words.index("no") + 1 :]
    return bool(behind) and behind[0].isalpha() and behind[0] not in _NOTHING_COUNTED
