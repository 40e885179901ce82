"""What other rules would have decided on the same answer. They are scored and never decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from probes.model.policy import TwoStages
from probes.signals.measure import measure
from probes.types import (
    ConsistencyMode,
    Decision,
    Evidence,
    Generation,
    Missing,
    PolicyMode,
    Signals,
    Verdict,
)
from service.gate.ask import Ask
from service.gate.rules import Rules

log = structlog.get_logger("service.gate.candidate")


@dataclass(frozen=True, slots=True)
class Compared:
    """A candidate's decision beside the one in force.

    Args:
        bundle: id of the candidate's bundle.
        policy: mode of its policy.
        active: what the rules in force decided, before an audit was drawn.
        decision: what the candidate would have, or ``Missing``: ``not_sampled`` where it hangs on
            sampled answers that the rules in force did not need, ``candidate_failed``.
        risk: the candidate's, or why there is none.
    """

    bundle: str
    policy: PolicyMode
    active: Verdict
    decision: Decision | Missing
    risk: float | Missing

    @property
    def verdict(self) -> str:
        """accept, escalate or reject; ``unknown`` where there is no decision."""
        return "unknown" if isinstance(self.decision, Missing) else self.decision.decision


def compare(
    ask: Ask,
    generation: Generation,
    samples: Sequence[str] | Missing | None,
    active: Decision,
    *,
    evidence: Evidence | Missing,
    shortened: bool,
) -> Compared:
    """Judge an answer by the candidate of the rules that it was asked under.

    Args:
        generation: what the candidate reads of the answer.
        samples: the answers that were sampled, why that failed, or None when none were wanted.
        active: the decision in force.
        evidence: as it was measured.
        shortened: as in :meth:`probes.model.bundle.Bundle.certificate_for`.
    """
    candidate = ask.rules.candidate
    assert candidate is not None
    try:
        signals = measure(ask.query, generation, candidate.bundle)
        signals = replace(signals, evidence=evidence)
        decision, risk = judge(
            candidate,
            signals,
            ask.self_consistency,
            samples,
            planned=ask.samples,
            greedy=generation.answer,
            shortened=shortened,
            metadata=ask.metadata,
        )
    except Exception:  # nothing that is only tried out may cost an answer
        log.exception("candidate_failed")
        decision = risk = Missing("candidate_failed")
    return Compared(candidate.bundle.id, candidate.policy.mode, active.decision, decision, risk)


def judge(
    rules: Rules,
    signals: Signals,
    mode: ConsistencyMode,
    samples: Sequence[str] | Missing | None,
    *,
    planned: int,
    greedy: str,
    shortened: bool,
    metadata: Mapping[str, str],
) -> tuple[Decision | Missing, float | Missing]:
    """What rules decide, and their risk, with the samples that there are.

    Args:
        signals: of stage one.
        mode: the request's self-consistency.
        samples: as in :func:`compare`. planned: how many the request asked for.
        greedy: the answer.
        shortened: as in :func:`compare`. metadata: the caller's words about the request.

    Returns ``Missing("not_sampled")`` as the decision where further samples could change it.
    """
    certificate = rules.certificate_for(mode, planned, shortened=shortened, metadata=metadata)
    judged = TwoStages(
        rules.policy, certificate, rules.bundle.assess, signals,
        mode=mode, greedy=greedy, planned=planned,
    )  # fmt: skip
    if judged.samples is not None:
        if samples is None:
            return Missing("not_sampled"), judged.first.score
        judged.take(samples)
        if judged.unsettled:
            return Missing("not_sampled"), judged.first.score
    assessment, decision = judged.decide()
    return decision, judged.samples if isinstance(judged.samples, Missing) else assessment.score
