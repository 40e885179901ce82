"""An outcome as a reviewer tells it, and an answer as it was recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from probes.types import ConsistencyMode, Reason, Verdict

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


class AnswerList(BaseModel):
    """Recorded answers, newest first."""

    answers: list[RecordedAnswer]
    next: str | None = Field(description="send it as 'after' for the next page; null on the last")
