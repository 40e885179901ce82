"""What an answer turned out to be, as told by a person or a later measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.records.canonical import microseconds, moment, plain
from service.records.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class Outcome:
    """One reviewer's word on one answer; one of ``correct``, ``reference`` and ``cannot_tell``.

    Args:
        answer_id: the answer's ULID.
        created: when it was told; with a time zone.
        correct: whether the answer was right.
        reference: the right answer, to be compared with it.
        reviewer: who says so, as the service knows them; several may judge the same answer.
        version: 1 for a reviewer's first word, 2 when it was changed, and so on.
        cannot_tell: the reviewer looked and cannot say; counts as wrong.
        rule: how ``reference`` is compared, as :mod:`probes.labels.rule` writes it; None beside
            another word, and beside a reference of a version that kept no rule.
        note: the reviewer's own text, such as a name.
        position: of this word among all on the answer, from 1, given by the database; None in
            records of earlier versions.
    """

    answer_id: str
    created: datetime
    correct: bool | None = None
    reference: str | None = None
    reviewer: str = ""
    version: int = 1
    cannot_tell: bool = False
    rule: str | None = None
    note: str | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        said = (self.correct is not None) + (self.reference is not None) + self.cannot_tell
        if said != 1:
            raise InvalidRecord(
                f"outcome: {'several are' if said else 'none is'} there of 'correct', 'reference' "
                "and 'cannot_tell'; give one"
            )
        if self.rule is not None and self.reference is None:
            raise InvalidRecord("outcome: 'rule' judges a reference; leave it out here")

    @property
    def says(self) -> tuple[bool | None, str | None, bool, str | None]:
        """The word itself: two that say the same are one."""
        return self.correct, self.reference, self.cannot_tell, self.rule


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """The outcome as columns that read back as they were written."""
    row = {
        "answer_id": outcome.answer_id,
        "reviewer": outcome.reviewer,
        "version": outcome.version,
        "created_us": microseconds(outcome.created),
        "correct": outcome.correct,
        "reference": outcome.reference,
        "cannot_tell": outcome.cannot_tell or None,
        "rule": outcome.rule,
        "note": outcome.note,
        "position": outcome.position,
    }
    return {name: plain(name, value) for name, value in row.items()}


def outcome_of(row: Mapping[Any, Any]) -> Outcome:
    """The outcome that a row of the table ``outcomes`` holds."""
    return Outcome(
        answer_id=row["answer_id"],
        created=moment(row["created_us"]),
        correct=row["correct"],
        reference=row["reference"],
        reviewer=row["reviewer"],
        version=row["version"],
        cannot_tell=bool(row["cannot_tell"]),
        rule=row["rule"],
        note=row["note"],
        position=row["position"],
    )
