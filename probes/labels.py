"""Whether an answer is wrong, by the rule of its task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from probes.errors import DataError
from probes.signals.consistency import normalise

LabelRule = Literal["yes_no", "match", "vqa"]
LABEL_RULES: tuple[LabelRule, ...] = get_args(LabelRule)

_YES_NO = re.compile(r"\b(yes|no)\b")
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}


@dataclass(frozen=True, slots=True)
class Label:
    """A judged answer.

    Args:
        wrong: the answer is not what the references say.
        parsed: what was compared; empty when the answer holds nothing to compare.
    """

    wrong: bool
    parsed: str


def is_wrong(answer: str, references: Sequence[str], kind: LabelRule) -> Label:
    """Judge an answer.

    ``yes_no`` compares the first word "yes" or "no" of the answer, wherever it stands. ``match``
    wants one reference, ``vqa`` a soft accuracy min(1, matches / 3) of at least 0.5 (Antol et al.
    2015); both normalise as VQA's evaluation does: case, punctuation, articles, number words.

    Raises DataError when the references cannot judge any answer.
    """
    if not references:
        raise DataError("references: none given; give at least one right answer")
    if kind == "yes_no":
        return _judge_yes_no(answer, references)
    parsed = _canonical(answer)
    matches = sum(_canonical(reference) == parsed for reference in references)
    if kind == "match":
        return Label(wrong=matches == 0 or not parsed, parsed=parsed)
    if kind == "vqa":
        if len(references) < 3:
            raise DataError(
                f"references: {len(references)}, but rule vqa needs at least 3; use rule match"
            )
        return Label(wrong=min(1.0, matches / 3) < 0.5 or not parsed, parsed=parsed)
    raise DataError(f"kind: unknown label rule {kind!r}; use one of {', '.join(LABEL_RULES)}")


def _judge_yes_no(answer: str, references: Sequence[str]) -> Label:
    truths = {_parse_yes_no(reference) for reference in references}
    if truths not in ({"yes"}, {"no"}):
        raise DataError(f"references: {list(references)} for rule yes_no; give 'yes' or 'no'")
    parsed = _parse_yes_no(answer)
    return Label(wrong=parsed not in truths, parsed=parsed)


def _parse_yes_no(text: str) -> str:
    found = _YES_NO.search(normalise(text))
    return found.group(1) if found else ""


def _canonical(text: str) -> str:
    words = normalise(text).split()
    return " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)
