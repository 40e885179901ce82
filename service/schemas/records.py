"""The shapes at the edge of the records: outcomes in, recorded answers out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from probes.errors import DataError
from probes.labels import check_references
from probes.labels.rule import parse_rule
from probes.types import ConsistencyMode, Missing, Reason, Verdict
from service.records.answer import AnswerRecord
from service.records.outcome import Outcome
from service.records.words import rule_on

MOST_PER_PAGE = 500
AnswerId = Annotated[str, StringConstraints(min_length=1, max_length=26, pattern="^[0-9A-Za-z]+$")]


def _name_or_object(rule: Any) -> Any:
    if not isinstance(rule, str | dict | None):
        raise ValueError("give a rule's name, or an object with its parameters")
    return rule


class OutcomeRequest(BaseModel):
    """What an answer turned out to be: one of ``correct``, ``reference`` and ``cannot_tell``."""

    model_config = ConfigDict(extra="forbid")

    id: AnswerId = Field(description="the answer's id", examples=["01K9ZJ2V7S8Q4T0N3M5X6Y7B8C"])
    correct: bool | None = Field(None, description="whether the answer was right")
    reference: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = Field(
        None, description="the right answer, which the given one is compared with"
    )
    cannot_tell: bool = Field(
        False, description="the reviewer looked and cannot say; counts as wrong"
    )
    rule: Annotated[str | dict[str, Any] | None, BeforeValidator(_name_or_object)] = Field(
        None,
        description="how they are compared: a rule's name, or an object with its parameters; match "
        "if left out",
        examples=["yes_no", {"rule": "number", "tolerance": 0.5}],
    )
    aliases: dict[str, list[str]] | None = Field(
        None, description="texts that mean another one", examples=[{"two": ["a pair"]}]
    )
    reviewer: Annotated[str, StringConstraints(max_length=128, strip_whitespace=True)] = Field(
        "",
        description="who says so, where the service asks for no keys; with a key or a token its "
        "subject is the reviewer, and this is kept beside. All words without a name are those of "
        "one reviewer",
    )
    note: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="free text, kept beside"
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        said = (self.correct is not None) + (self.reference is not None) + self.cannot_tell
        if said != 1:
            raise ValueError(
                f"{'several are' if said else 'none is'} there of 'correct', 'reference' and "
                "'cannot_tell'; give one"
            )
        return self

    def rule_text(self) -> str | None:
        """The rule as it is kept; None without a reference.

        Raises DataError, which names the field, where it cannot judge the reference.
        """
        if self.reference is None:
            if self.rule is not None or self.aliases is not None:
                raise DataError("rule: judges a reference; give one, or leave the rule out")
            return None
        rule = parse_rule("match" if self.rule is None else self.rule, self.aliases)
        check_references([self.reference], rule)
        return rule.text

    def outcome(self, caller: str | None) -> Outcome:
        """As it is recorded; ``caller`` is the authenticated subject, if there is one.

        Raises DataError as :meth:`rule_text`.
        """
        named = caller is not None and self.reviewer
        notes = [text for text in (self.reviewer if named else None, self.note) if text]
        return Outcome(
            answer_id=self.id,
            created=datetime.now(UTC),
            correct=self.correct,
            reference=self.reference,
            reviewer=self.reviewer if caller is None else caller,
            cannot_tell=self.cannot_tell,
            rule=self.rule_text(),
            note=": ".join(notes) or None,
        )


class OutcomeResponse(BaseModel):
    """The outcome is in the records."""

    id: str
    status: Literal["added", "unchanged"] = Field(
        description="unchanged: this reviewer had said the same before"
    )
    counts: bool = Field(
        description="whether this is the word that now counts on the answer. Of an audit the "
        "first counts, until a second reviewer is asked and says otherwise"
    )


class RecordedOutcome(BaseModel):
    """One reviewer's word on an answer."""

    correct: bool | None
    reference: str | None
    cannot_tell: bool
    rule: str | None = Field(
        description="the rule that compares the reference; null beside another word and in "
        "outcomes of versions that kept none"
    )
    reviewer: str = Field(description="the key's or token's subject, or as the caller said")
    note: str | None
    version: int = Field(description="2 and more for a changed word")
    created: datetime
    counts: bool = Field(description="whether this is the word that counts")

    @classmethod
    def of(cls, outcome: Outcome, counts: bool) -> RecordedOutcome:
        """Translate."""
        same = {name: getattr(outcome, name) for name in cls.model_fields if name != "counts"}
        return cls(**same, counts=counts)


class RecordedRisk(BaseModel):
    """The risk and the thresholds that were in force."""

    score: float | None
    status: str = Field(description="ok, or why there is no score")
    stage: int
    accept_below: float | None
    reject_above: float | None


class RecordedAudit(BaseModel):
    """Whether an accepted answer was drawn, and how likely that was."""

    selected: bool
    probability: float


class RecordedAnswer(BaseModel):
    """An answer as it was recorded."""

    id: str
    created: datetime
    question: str | None = Field(description="null unless the operator keeps questions")
    question_sha256: str
    image_sha256: str
    answer: str | None
    decision: Verdict
    reason: Reason
    mode: str
    self_consistency: ConsistencyMode
    risk: RecordedRisk
    signals: dict[str, Any]
    timings: dict[str, float]
    model: str
    revision: str
    bundle: str
    certificate: str | None
    metadata: dict[str, str]
    group: str | None = Field(description="as the caller named it; null where none was")
    candidate: dict[str, Any] | None = Field(
        description="what the candidate beside the rules in force said; null where there was none"
    )
    audit: RecordedAudit | None = Field(description="null when it could not be drawn")
    outcomes: list[RecordedOutcome]

    @classmethod
    def of(
        cls, record: AnswerRecord, outcomes: Sequence[Outcome], *, blind: bool = False
    ) -> RecordedAnswer:
        """Translate; ``outcomes`` are this answer's. ``blind``: without them."""
        same = {
            name: getattr(record, name)
            for name in cls.model_fields
            if name not in {"risk", "audit", "outcomes"}
        }
        missing = record.risk.reason if isinstance(record.risk, Missing) else None
        risk = RecordedRisk(
            score=None if isinstance(record.risk, Missing) else record.risk,
            status=missing or "ok",
            stage=record.stage,
            accept_below=record.accept_below,
            reject_above=record.reject_above,
        )
        drawn = record.audit_probability
        audit = None if drawn is None else RecordedAudit(selected=record.audit, probability=drawn)
        ruling = rule_on(record.answer, record.audit, outcomes)
        told = [
            RecordedOutcome.of(one, counts=ruling is not None and one == ruling.outcome)
            for one in ([] if blind else outcomes)
        ]
        return cls(**same, risk=risk, audit=audit, outcomes=told)


class AnswerList(BaseModel):
    """Recorded answers, newest first."""

    answers: list[RecordedAnswer]
    next: str | None = Field(description="send it as 'after' for the next page; null on the last")
