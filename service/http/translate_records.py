"""Translates a reviewer's outcome for the records, and a record for the reader."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from probes.errors import DataError
from probes.labels import check_references
from probes.labels.rule import parse_rule
from probes.types import Missing
from service.errors import Invalid
from service.records.answer import AnswerRecord
from service.records.outcome import Outcome
from service.records.words import rule_on
from service.schemas.records import (
    OutcomeRequest,
    RecordedAnswer,
    RecordedAudit,
    RecordedOutcome,
    RecordedRisk,
)


def to_outcome(told: OutcomeRequest, caller: str | None) -> Outcome:
    """The outcome as the records keep it, told now.

    Args:
        caller: the authenticated subject, if there is one.

    Raises:
        Invalid: the rule cannot judge the reference; names the field.
    """
    try:
        rule = _rule(told)
    except DataError as error:
        field = str(error).partition(":")[0].replace("references", "reference")
        raise Invalid(str(error), field=field, kind="invalid_field") from error
    named = caller is not None and told.reviewer
    notes = [text for text in (told.reviewer if named else None, told.note) if text]
    return Outcome(
        answer_id=told.id,
        created=datetime.now(UTC),
        correct=told.correct,
        reference=told.reference,
        reviewer=told.reviewer if caller is None else caller,
        cannot_tell=told.cannot_tell,
        rule=rule,
        note=": ".join(notes) or None,
    )


def _rule(told: OutcomeRequest) -> str | None:
    """The rule as the records keep it; None without a reference. Raises DataError."""
    if told.reference is None:
        if told.rule is not None or told.aliases is not None:
            raise DataError("rule: judges a reference; give one, or leave the rule out")
        return None
    rule = parse_rule("match" if told.rule is None else told.rule, told.aliases)
    check_references([told.reference], rule)
    return rule.text


def to_recorded_answer(
    record: AnswerRecord, outcomes: Sequence[Outcome], *, blind: bool = False
) -> RecordedAnswer:
    """A record with its outcomes.

    Args:
        outcomes: this answer's, all of them: they say which one counts.
        blind: show none of them.
    """
    same = {
        name: getattr(record, name)
        for name in RecordedAnswer.model_fields
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
    shown = [
        _recorded_outcome(one, counts=ruling is not None and one == ruling.outcome)
        for one in ([] if blind else outcomes)
    ]
    return RecordedAnswer(**same, risk=risk, audit=audit, outcomes=shown)


def _recorded_outcome(outcome: Outcome, *, counts: bool) -> RecordedOutcome:
    names = RecordedOutcome.model_fields.keys() - {"counts"}
    return RecordedOutcome(**{name: getattr(outcome, name) for name in names}, counts=counts)
