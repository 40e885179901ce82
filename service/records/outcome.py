"""What an answer turned out to be, as told by a person or a later measurement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from service.records.canonical import microseconds, moment, plain
from service.records.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """One reviewer's word on one answer; exactly one of ``correct`` and ``reference``.

    Args:
        answer_id: the answer's ULID.
        created: when it was told; with a time zone.
        correct: whether the answer was right.
        reference: the right answer, to be compared with it.
        rule: how they are compared, as :mod:`probes.labels.rule` writes it; None beside
            ``correct``, and beside a reference of a version that kept no rule.
        reviewer: who says so; several may judge the same answer.
        version: 1 for a reviewer's first word, 2 when it was corrected, and so on.
    """

    answer_id: str
    created: datetime
    correct: bool | None = None
    reference: str | None = None
    reviewer: str = ""
    version: int = 1
    rule: str | None = None

    def __post_init__(self) -> None:
        if (self.correct is None) == (self.reference is None):
            raise InvalidRecord("outcome: give either 'correct' or 'reference', not both")
        if self.correct is not None and self.rule is not None:
            raise InvalidRecord("outcome: 'rule' judges a reference; leave it out with 'correct'")


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The outcome as columns that read back as they were written."""
    row = {
        "answer_id": outcome.answer_id,
        "reviewer": outcome.reviewer,
        "version": outcome.version,
        "created_us": microseconds(outcome.created),
        "correct": outcome.correct,
        "reference": outcome.reference,
        "rule": outcome.rule,
    }
    return {name: plain(name, value) for name, value in row.items()}


def outcome_of(row: RowMapping) -> Outcome:
    """The outcome that a row of the table ``outcomes`` holds."""
    return Outcome(
        answer_id=row["answer_id"],
        created=moment(row["created_us"]),
        correct=row["correct"],
        reference=row["reference"],
        reviewer=row["reviewer"],
        version=row["version"],
        rule=row["rule"],
    )
