"""What other rules would have said of the same answer: scored beside, never decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from probes.policy import PolicyMode, settled
from probes.signals import measure
from probes.signals.consistency import measure_consistency
from probes.types import Decision, Generation, Missing, SelfConsistency, Verdict
from service.rules import Rules

if TYPE_CHECKING:
    from service.pipeline import Ask

log = structlog.get_logger("service.candidate")


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
    shortened: bool,
) -> Compared:
    """Judge an answer by the candidate of the rules that it was asked under.

    Args:
        generation: what the candidate reads of the answer.
        samples: the answers that were sampled, why that failed, or None when none were wanted.
        active: the decision in force.
        shortened: as in :meth:`probes.bundle.Bundle.certificate_for`.
    """
    candidate = ask.rules.candidate
    assert candidate is not None
    try:
        decision, risk = _judge(ask, candidate, generation, samples, shortened)
    except Exception:  # nothing that is only tried out may cost an answer
        log.exception("candidate_failed")
        decision = risk = Missing("candidate_failed")
    return Compared(candidate.bundle.id, candidate.policy.mode, active.decision, decision, risk)


def _judge(
    ask: Ask,
    candidate: Rules,
    generation: Generation,
    samples: Sequence[str] | Missing | None,
    shortened: bool,
) -> tuple[Decision | Missing, float | Missing]:
    bundle, policy = candidate.bundle, candidate.policy
    certificate = candidate.certificate_for(ask.self_consistency, ask.samples, shortened=shortened)
    signals = measure(ask.query, generation, bundle)
    assessment = bundle.assess(signals)
    wanted = ask.self_consistency == "always" or (
        ask.self_consistency == "auto" and policy.middle_band(assessment, certificate)
    )
    if not wanted:
        return policy.decide(assessment, certificate), assessment.score
    if samples is None:
        return Missing("not_sampled"), assessment.score
    policy = replace(policy, required=(*policy.required, "self_consistency"))

    def decide(consistency: SelfConsistency | Missing) -> Decision:
        assessed = bundle.assess(replace(signals, self_consistency=consistency))
        return policy.decide(assessed, certificate)

    if isinstance(samples, Missing):
        return decide(samples), samples
    if not settled(generation.answer, samples, ask.samples, decide):
        return Missing("not_sampled"), assessment.score
    consistency = measure_consistency(generation.answer, samples, ask.samples)
    second = bundle.assess(replace(signals, self_consistency=consistency))
    return policy.decide(second, certificate), second.score
