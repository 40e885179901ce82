"""From a risk to a decision, by the rules of :mod:`probes.model.precedence`, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.model.certificate import Certificate
from probes.model.precedence import RULES, Case
from probes.signals.consistency import completed_consistency, measure_consistency
from probes.types import (
    ConsistencyMode,
    Decision,
    Missing,
    RiskAssessment,
    SelfConsistency,
)

PolicyMode = Literal["certified", "manual"]
SmallSlices = Literal["pooled", "own_or_escalate"]


@dataclass(frozen=True, slots=True)
class Policy:
    """When an answer is accepted, rejected, or goes to a person.

    Args:
        mode: ``certified`` takes ``accept_below`` from the certificate and cannot be overridden;
            ``manual`` takes both thresholds from the operator and promises nothing.
        accept_below: manual mode: accept risks at or below it; ``None`` accepts none.
        reject_above: risk above which an answer is rejected; ``None`` rejects none.
        required: names of :class:`~probes.types.Signals` without which nothing is accepted.
        self_consistency: the mode used when a request does not choose one.
        small_slices: what serves a slice too small for a test of its own: ``pooled``, the
            certificate that it shares with others like it, or none, so that it escalates.
    """

    mode: PolicyMode = "certified"
    accept_below: float | None = None
    reject_above: float | None = None
    required: tuple[str, ...] = ("hidden_state_probe", "token_confidence", "domain")
    self_consistency: ConsistencyMode = "never"
    small_slices: SmallSlices = "pooled"

    def __post_init__(self) -> None:
        for name in ("accept_below", "reject_above"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise ValueError(f"{name}: {value!r} is not a risk; give a number from 0 to 1")
        if self.mode == "certified" and self.accept_below is not None:
            raise ValueError(
                "accept_below: comes from the certificate in certified mode; leave it out, or use "
                "the manual mode"
            )
        low, high = self.accept_below, self.reject_above
        if low is not None and high is not None and high < low:
            raise ValueError(f"reject_above: {high} lies below accept_below {low}")

    def threshold(self, certificate: Certificate | Missing) -> float | None:
        """``accept_below`` in force, the operator's or the certificate's; ``None`` accepts none."""
        if self.mode == "manual":
            return self.accept_below
        return None if isinstance(certificate, Missing) else certificate.threshold

    def decide(self, assessment: RiskAssessment, certificate: Certificate | Missing) -> Decision:
        """Decide on one answer.

        Args:
            certificate: what :meth:`probes.model.bundle.Bundle.certificate_for` gave; the reason
                of a ``Missing`` is ``no_certificate`` or ``certificate_void``. Manual mode ignores
                it.
        """
        accept_below = self.threshold(certificate)

        certified = self.mode == "certified"
        case = Case(
            assessment=assessment,
            required=self.required,
            certificate=certificate if certified else None,
            accept_below=accept_below,
            reject_above=self.reject_above,
        )
        rule = next(rule for rule in RULES if rule.holds(case))
        if not certified or isinstance(certificate, Missing):
            return Decision(rule.decision, rule.reason, accept_below, self.reject_above, None)
        return Decision(
            rule.decision, rule.reason, accept_below, self.reject_above,
            certificate.id, certificate.scope,
        )  # fmt: skip

    def middle_band(self, assessment: RiskAssessment, certificate: Certificate | Missing) -> bool:
        """True where self-consistency could still turn an escalation into an acceptance.

        Stage one escalates for its risk alone: the answer is in the domain, nothing is missing,
        there is a threshold, and the risk lies between it and ``reject_above``.
        """
        if self.threshold(certificate) is None:
            return False
        return self.decide(assessment, certificate).reason == "risk_above_threshold"


def settled(
    greedy: str,
    samples: Sequence[str],
    planned: int,
    decide: Callable[[SelfConsistency | Missing], Decision],
) -> bool:
    """Whether the samples still to come cannot change the decision, so that sampling may stop.

    Every possible number of further agreeing samples is tried, and so is the decision on what there
    is now: all must agree.

    Args:
        greedy: the answer. samples: the answers sampled so far. planned: how many there are to be.
        decide: the second stage's decision for a given self-consistency.
    """
    missing = planned - len(samples)
    if missing <= 0:
        return True
    if not samples:
        return False
    now = decide(measure_consistency(greedy, samples, planned)).decision
    for agreeing in range(missing + 1):
        completed = completed_consistency(
            greedy, samples, planned, agreeing=agreeing, others=missing - agreeing
        )
        if decide(completed).decision != now:
            return False
    return True
