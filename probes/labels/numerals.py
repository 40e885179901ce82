"""Numbers as words and digits, and the quantity that a text names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: value for value, word in enumerate(_UP_TO_NINETEEN.split())} | {"none": 0}
_TENS = {word: 10 * value for value, word in enumerate(_FROM_TWENTY.split(), start=2)}
_NUMBER = re.compile(r"(-?)(\d+(?:[.,]\d+)*)((?:[^\W\d_]+(?:\^-?\d+)?)?)")
_NAMES = {"percent": "%", "pct": "%", "degree": "°", "degrees": "°", "permille": "‰"} | {
    "″": "inch", "in": "inch", "inches": "inch", "′": "foot", "ft": "foot", "feet": "foot",
}  # fmt: skip
_DEGREES = {"c": "°c", "celsius": "°c", "f": "°f", "fahrenheit": "°f"}
_CURRENCIES = frozenset("$€£¥₹")
_SCALE_WORDS = """
    % ‰ tens dozen score gross pair pairs couple couples hundred hundreds thousand thousands million
    millions billion billions trillion trillions k mio mrd bn x tenth tenths fourth fourths fifth
    fifths sixth eighth eighths hundredth hundredths thousandths squared cubed
"""
_SCALES = frozenset(_SCALE_WORDS.split())
"""Words behind a number that make another one of it."""
_PER_WORDS = "h hr hour s sec second min minute day m km cm mm l kg g ° °c"
_MEASURED_PER = frozenset(_PER_WORDS.split())
"""What a unit is per; "3 per side" is another number than 3."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the word behind it.

    Args:
        unit: empty where nothing stands behind the number.
    """

    value: Decimal
    unit: str = ""

    @property
    def scale(self) -> str:
        """The unit where it makes another number of the value: "3 %" and "3 dozen" are not 3."""
        _, per, what = self.unit.rpartition("per ")
        return self.unit if self.unit in _SCALES or (per and what not in _MEASURED_PER) else ""

    def __str__(self) -> str:
        value = f"{self.value:f}"  # exact, where `normalize` rounds to 28 digits
        if "." in value:
            value = value.rstrip("0").rstrip(".")
        return f"{'0' if self.value == 0 else value} {self.unit}".rstrip()


def as_digits(words: Sequence[str]) -> list[str]:
    """Write cardinal numbers up to 999,999 as digits; keep other words.

    "none" is 0, as in VQA; "no one" is nobody.

    >>> as_digits(["one", "hundred", "and", "five", "screws"])
    ['105', 'screws']
    """
    found: list[str] = []
    at = 0
    while at < len(words):
        nobody = words[at] == "one" and words[at - 1 : at] == ["no"]
        value, used = (0, 0) if nobody else _cardinal(words, at)
        found.append(str(value) if used else words[at])
        at += used or 1
    return found


def _cardinal(words: Sequence[str], start: int) -> tuple[int, int]:
    """The number that begins at a word, and how many words it takes: 0 for none."""
    thousands, group, room, at = 0, 0, 1000, start
    while at < len(words):
        word = words[at]
        value = _SMALL.get(word, _TENS.get(word))
        if value is not None and value < room:
            group, room = group + value, (10 if word in _TENS else 0)
        elif word == "hundred" and group < 10 and (room == 0 or at == start):
            group, room = max(group, 1) * 100, 100
        elif word == "thousand" and not thousands and (group or at == start):
            thousands, group, room = max(group, 1) * 1000, 0, 1000
        elif word != "and" or at == start or room < 100 or not _is_number(words, at + 1):
            break
        at += 1
    return thousands + group, at - start


def _is_number(words: Sequence[str], at: int) -> bool:
    return at < len(words) and (words[at] in _SMALL or words[at] in _TENS)


def quantities(form: str) -> list[Quantity]:
    """Return every quantity of a text in :func:`~probes.labels.text.match_form`, each once.

    >>> [str(one) for one in quantities("3.0 mm or -2")]
    ['3 mm', '-2']
    """
    words = form.split()
    found: dict[str, Quantity] = {}
    for at, word in enumerate(words):
        match = _NUMBER.fullmatch(word)
        digits = _decimal(match.group(2)) if match else None
        if match is None or digits is None:
            continue
        before = words[at - 1] if at else ""
        negative = match.group(1) or before in ("minus", "negative")
        one = Quantity(-digits if negative else digits, _unit(match.group(3), words, at))
        found.setdefault(str(one), one)
    return list(found.values())


def _unit(behind: str, words: Sequence[str], at: int) -> str:
    """``behind``, what hangs on the number, the currency before it, or the word after it."""
    following = [*words[at + 1 : at + 4], "", "", ""]
    if at and words[at - 1] in _CURRENCIES and following[0] not in _SCALES:
        return words[at - 1]
    first, second, third = (behind, *following[:2]) if behind else following[:3]
    first = _NAMES.get(first, first)
    if first == "°" and second in _DEGREES:
        return _DEGREES[second]
    if (first, second) in (("per", "cent"), ("per", "mille")):
        return "%" if second == "cent" else "‰"
    if second == "per" or first == "per":
        return f"{first} {second} {third}".rstrip()
    return "" if first[:1].isdigit() or first[:1] == "-" else first.replace("^", "")


def _decimal(digits: str) -> Decimal | None:
    """3.5, the 3,5 of other languages, 1.000.000 and 1.000,5; None for 1.2.3 and the like."""
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}", digits):
        digits = digits.replace(".", "")
    if digits.count(",") == 1 and "." not in digits:
        digits = digits.replace(",", ".")
    return Decimal(digits) if re.fullmatch(r"\d+(?:\.\d+)?", digits) else None
