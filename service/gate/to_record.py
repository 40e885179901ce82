"""Turns an answered request into its record."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from probes.monitor.audit import Audit
from probes.signals.codec import parts_of
from probes.types import Missing
from service.gate.ask import Ask, Outcome
from service.gate.candidate import Compared
from service.gate.stages import Stages
from service.records.answer import AnswerRecord, question_hash


def to_record(
    ask: Ask,
    outcome: Outcome,
    stages: Stages,
    answer_id: str,
    audit: Audit | None,
    mode: str,
) -> AnswerRecord:
    """Make the record of an answer given under this id.

    Args:
        audit: the draw of an accepted answer, or None when none was made.
        mode: ``enforce`` or ``shadow``.
    """
    decision, assessment = outcome.decision, outcome.assessment
    bundle = ask.rules.bundle
    return AnswerRecord(
        id=answer_id,
        created=datetime.now(UTC) - timedelta(seconds=stages.total),
        question_sha256=question_hash(ask.query.question),
        image_sha256=ask.picture.sha256,
        model=bundle.model.name,
        revision=bundle.model.revision,
        bundle=bundle.id,
        certificate=decision.certificate,
        scope=decision.scope,
        decision=decision.decision,
        reason=decision.reason,
        mode=mode,
        self_consistency=ask.self_consistency,
        risk=assessment.score,
        stage=assessment.stage,
        accept_below=decision.accept_below,
        reject_above=decision.reject_above,
        signals=parts_of(assessment.signals),
        timings={**stages.seconds, "total": stages.total},
        metadata=ask.metadata,
        group=ask.group,
        audit=audit is not None and audit.selected,
        audit_probability=None if audit is None else audit.inclusion_probability,
        audit_reference=None if audit is None else audit.reference,
        question=ask.query.question,
        answer=outcome.generation.answer,
        candidate=None if outcome.compared is None else _candidate(outcome.compared),
    )


def _candidate(compared: Compared) -> dict[str, Any]:
    decision, risk = compared.decision, compared.risk
    return {
        "bundle": compared.bundle,
        "policy": compared.policy,
        "risk": {"missing": risk.reason} if isinstance(risk, Missing) else risk,
        **({"missing": decision.reason} if isinstance(decision, Missing) else asdict(decision)),
    }
