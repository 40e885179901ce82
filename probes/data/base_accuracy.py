"""How often the model is right, beside how often one answer to every question would be.

A model below the latter is rarely that bad. More often the labels are broken, as where "Yes, there
is" counts as wrong, so look at this first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probes.data.record import Record
from probes.labels.abstention import abstains
from probes.labels.rule import rule_name
from probes.labels.text import normalise, spoken
from probes.signals.degenerate import measure_form

ENOUGH = 10
"""Answers of a kind from which on a single reading of them all is no chance."""


@dataclass(frozen=True, slots=True)
class BaseAccuracy:
    """How often the model is right on one kind of question, or on ``all``.

    Args:
        accuracy: share of right answers.
        majority_answer: the commonest reference.
        majority_rate: its share.
        abstentions: answers that say they give none; they count as wrong.
        unparsed: other answers that hold nothing the rule reads; they count as wrong too.
        degenerate: answers that nobody could mean, such as loops; the gate never accepts one.
        one_reading: the one reading of every answer, where the references differ; else empty.
        plain_yes_no: every reference is yes or no, and rule ``match`` judges them.
    """

    kind: str
    answers: int
    accuracy: float
    majority_answer: str
    majority_rate: float
    abstentions: int
    unparsed: int
    degenerate: int
    one_reading: str
    plain_yes_no: bool

    @property
    def below_majority(self) -> bool:
        """Whether one answer to every question would be right more often."""
        return self.accuracy < self.majority_rate

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of labels that may be broken."""
        found = []
        if self.below_majority:
            found.append(
                f"accuracy of kind {self.kind} ({self.accuracy:.1%}) is below always answering "
                f"{self.majority_answer!r} ({self.majority_rate:.1%}); check the labels"
            )
        if self.kind == "all":  # the others are reported per kind
            return tuple(found)
        if self.abstentions or self.unparsed:
            found.append(
                f"kind {self.kind}: {self.abstentions} of {self.answers} answers are abstentions, "
                f"{self.unparsed} more hold nothing that the rule reads; all count as wrong"
            )
        if self.degenerate:
            found.append(
                f"kind {self.kind}: {self.degenerate} of {self.answers} answers are degenerate "
                "(empty, markup or a loop); the gate escalates such answers"
            )
        if self.one_reading:
            found.append(
                f"kind {self.kind}: each of {self.answers} answers was read as "
                f"{self.one_reading!r}, and their references differ; check rule and model"
            )
        if self.plain_yes_no:
            found.append(
                f"kind {self.kind}: all references are yes or no, judged by rule match; name rule "
                "yes_no where 'Yes, there is' is right too"
            )
        return tuple(found)


def base_accuracy(records: Sequence[Record]) -> tuple[BaseAccuracy, ...]:
    """Return the base accuracy of all answers, then of each kind in alphabetical order."""
    kinds = sorted({record.kind for record in records})
    parts = {"all": list(records)} | {
        kind: [record for record in records if record.kind == kind] for kind in kinds
    }
    found = []
    for kind, part in parts.items():
        truths = Counter(normalise(record.references[0]) for record in part)
        answer, count = truths.most_common(1)[0]
        unparsed = [record for record in part if not record.parsed]
        abstentions = sum(abstains(spoken(record.answer)) for record in unparsed)
        readings = {record.parsed for record in part}
        many = len(part) >= ENOUGH and len(truths) > 1
        yes_no = set(truths) <= {"yes", "no"}
        found.append(
            BaseAccuracy(
                kind=kind,
                answers=len(part),
                accuracy=sum(not record.wrong for record in part) / len(part),
                majority_answer=answer,
                majority_rate=count / len(part),
                abstentions=abstentions,
                unparsed=len(unparsed) - abstentions,
                degenerate=sum(measure_form(r.answer).degenerate is not None for r in part),
                one_reading=readings.pop() if many and len(readings) == 1 else "",
                plain_yes_no=yes_no and all(rule_name(r.rule) == "match" for r in part),
            )
        )
    return tuple(found)
