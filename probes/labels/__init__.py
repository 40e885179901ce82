"""Judges whether an answer is wrong, by the rule that the data names. The project has one judge.

Datasets, outcomes, replay and recertification call :func:`judge`; self-consistency compares answers
by the same forms (:mod:`probes.labels.sameness`), because no rule is known while serving.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from probes.errors import DataError
from probes.labels.abstention import abstains
from probes.labels.amount import one_amount
from probes.labels.choice import option_of, read_choice
from probes.labels.dates import read_date
from probes.labels.numerals import Quantity
from probes.labels.pattern import Pattern
from probes.labels.rule import Rule, parse_rule
from probes.labels.text import match_form, normalise, spoken
from probes.labels.vqa_text import vqa_form
from probes.labels.yes_no import parse_yes_no, with_meanings
from probes.types import Missing

VQA_REFERENCES = 3

_BETWEEN = re.compile(r"[;|\n•]|,(?!\d)|(?<!\d),|\band\b|&", re.IGNORECASE)
_LISTED_FIRST = re.compile(r"\s*\W?1[.)]\s")
_LISTED = re.compile(r"(?<![\w.,])\(?\d{1,2}[.)]\s")
"""Numbers of a list that begins with 1: "1. nut 2. bolt"."""
_OPEN_END = re.compile(r"(?:,|\band)\s*(?:\.\.|…)|(?:\.\.|…|[?])\W*$")
"""More things than were named, or none for sure."""


@dataclass(frozen=True, slots=True)
class Label:
    """A judged answer.

    Args:
        wrong: the answer is not what the references say; always so where nothing was parsed.
        parsed: what was compared; empty where the answer holds nothing to compare.
        unparsed: why it is empty: ``empty_answer``, ``abstention`` or ``no_parse``.
    """

    wrong: bool
    parsed: str
    unparsed: Missing | None = None


Reader = Callable[[str], tuple[str, bool]]
"""An answer to what was parsed of it, empty for nothing, and whether that is right."""


def judge(answer: str, references: Sequence[str], rule: str | Rule) -> Label:
    """Judge an answer.

    Reasoning (``<think>``) is no part of it. One that says it gives none is an abstention, which is
    never right, unless rule ``choice`` offers it as an option.

    - ``yes_no``: yes or no, see :func:`~probes.labels.yes_no.parse_yes_no`; all references agree.
    - ``match``: the same words as one reference, without case, punctuation and articles, numbers as
      words or digits.
    - ``vqa``: VQA's normalisation; min(1, matches / 3) of at least 0.5 (Antol et al. 2015).
    - ``number``: the one number of the answer, within a tolerance, and in the reference's unit
      where both name one.
    - ``choice``: one option, by its letter or its text.
    - ``set``: the same things as the references together, in any order.
    - ``date``: the same day or month, however written.
    - ``regex``: a reference matches the whole answer (RE2, without case).

    Args:
        rule: a rule, or its text.

    Raises DataError when the references cannot judge any answer.
    """
    how = parse_rule(rule) if isinstance(rule, str) else rule
    read = _reader(references, how)
    said = how.means(spoken(answer))
    if not normalise(said):
        return Label(True, "", Missing("empty_answer"))
    if abstains(said) and not (how.name == "choice" and read(said)[0]):
        return Label(True, "", Missing("abstention"))
    parsed, right = read(said)
    if not parsed:
        return Label(True, "", Missing("no_parse"))
    return Label(not right, parsed)


def check_references(references: Sequence[str], rule: str | Rule) -> None:
    """Raise DataError, with the field and the fix, where no answer could be right."""
    how = parse_rule(rule) if isinstance(rule, str) else rule
    _reader(references, how)
    if how.name in ("match", "set") and all(abstains(one) for one in references):
        raise DataError(
            f"references: {list(references)} give no answer, and an abstention is never right; "
            "leave the line out, or use rule ignore"
        )


def _reader(references: Sequence[str], rule: Rule) -> Reader:
    if not references:
        raise DataError("references: none given; give at least one right answer")
    if rule.name == "ignore":
        raise DataError("rule: ignore judges nothing; leave the answer out")
    return _READERS[rule.name](references, rule)


def _read_yes_no(references: Sequence[str], rule: Rule) -> Reader:
    def read(text: str) -> str:
        return parse_yes_no(with_meanings(text, rule.means) if rule.aliases else text)

    truths = {read(reference) for reference in references}
    if truths not in ({"yes"}, {"no"}):
        raise DataError(f"references: {list(references)} for rule yes_no; give 'yes' or 'no'")
    return lambda text: (found := read(text), found in truths)


def _read_match(references: Sequence[str], rule: Rule) -> Reader:
    meant = [rule.means(reference) for reference in references]
    truths = {match_form(one) for one in meant} | {normalise(one) for one in meant}
    truths.discard("")
    if not truths:
        raise DataError(f"references: {list(references)} hold no word; give a right answer")
    return lambda text: (
        found := match_form(text),
        found in truths or normalise(text) in truths,
    )


def _read_vqa(references: Sequence[str], rule: Rule) -> Reader:
    if len(references) < VQA_REFERENCES:
        raise DataError(
            f"references: {len(references)}, but rule vqa needs at least {VQA_REFERENCES}; use "
            "rule match"
        )
    truths = [vqa_form(rule.means(reference)) for reference in references]

    def read(text: str) -> tuple[str, bool]:
        found = vqa_form(text)
        return found, min(1.0, truths.count(found) / 3) >= 0.5

    return read


def _read_number(references: Sequence[str], rule: Rule) -> Reader:
    truths = [_one_quantity(reference, rule, reference=True) for reference in references]
    if None in truths:
        raise DataError(
            f"references: {list(references)} for rule number; give one number each, such as '3' "
            "or '2.5 mm'"
        )

    def read(text: str) -> tuple[str, bool]:
        found = _one_quantity(text, rule)
        if found is None:
            return "", False
        return str(found), any(_is_near(found, one, rule) for one in truths if one)

    return read


def _one_quantity(text: str, rule: Rule, reference: bool = False) -> Quantity | None:
    found = one_amount(rule.means(text), reference)
    if found is None or (unit := rule.means(found.unit)) == found.unit:
        return found
    return Quantity(found.value, match_form(unit))


def _is_near(one: Quantity, truth: Quantity, rule: Rule) -> bool:
    if one.scale != truth.scale and (one.scale or truth.unit != one.unit != ""):
        return False
    if truth.unit and one.unit and not _same_unit(one.unit, truth.unit):
        return False
    relative = Decimal(str(rule.relative)) * abs(truth.value)
    return abs(one.value - truth.value) <= max(Decimal(str(rule.tolerance)), relative)


def _same_unit(one: str, other: str) -> bool:
    """ "°" says nothing against "°c"."""
    return one == other or ("°" in (one, other) and one[0] == other[0])


def _read_choice(references: Sequence[str], rule: Rule) -> Reader:
    truths = {option_of(rule.means(reference), rule.options) for reference in references}
    if "" in truths:
        told = ", ".join(" ".join(pair).strip() for pair in rule.options)
        raise DataError(f"references: {list(references)}: give an option, one of {told}")
    return lambda text: (found := read_choice(text, rule.options), found in truths)


def _read_set(references: Sequence[str], rule: Rule) -> Reader:
    truth = set[str]().union(*(_things(reference, rule) for reference in references))
    if not truth:
        raise DataError(f"references: {list(references)} name nothing; give what belongs to it")

    def read(text: str) -> tuple[str, bool]:
        found = _things(text, rule)
        return ", ".join(sorted(found)), found == truth

    return read


def _things(text: str, rule: Rule) -> set[str]:
    parts = _BETWEEN.split(_LISTED.sub(";", text) if _LISTED_FIRST.match(text) else text)
    open_end = {"..."} if _OPEN_END.search(text) else set[str]()
    return {form for part in parts if (form := match_form(rule.means(part)))} | open_end


def _read_date(references: Sequence[str], rule: Rule) -> Reader:
    truths = {read_date(rule.means(reference), rule.order) for reference in references}
    if "" in truths:
        raise DataError(
            f"references: {list(references)} for rule date; write 2025-04-03 or 2025-04, or give "
            "'order' as dmy or mdy"
        )
    return lambda text: (found := read_date(text, rule.order), found in truths)


def _read_regex(references: Sequence[str], rule: Rule) -> Reader:
    patterns = [Pattern(reference) for reference in references]
    return lambda text: (" ".join(text.split()), any(one.matches(text) for one in patterns))


_READERS: Mapping[str, Callable[[Sequence[str], Rule], Reader]] = {
    "yes_no": _read_yes_no,
    "match": _read_match,
    "vqa": _read_vqa,
    "number": _read_number,
    "choice": _read_choice,
    "set": _read_set,
    "date": _read_date,
    "regex": _read_regex,
}
