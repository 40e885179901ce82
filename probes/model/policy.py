"""From a risk to a decision, by the rules of :mod:`probes.model.precedence`, in their order.

:class:`TwoStages` walks one answer through the whole policy. It is what a certificate is about:
:mod:`probes.guarantee.composed` says the same of many answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from probes.model.certificate import Certificate
from probes.model.precedence import RULES, Case
from probes.signals.consistency import completed_consistency, measure_consistency
from probes.types import (
    ConsistencyMode,
    Decision,
    Missing,
    PolicyMode,
    RiskAssessment,
    SelfConsistency,
    Signals,
    SmallSlices,
)


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


class TwoStages:
    """One answer's way to its decision: by stage one, or by samples where those could change it.

    It draws nothing itself. Whoever holds it gives it samples while :attr:`unsettled`, drawn now or
    recorded before, and then asks it to :meth:`decide`::

        while stages.unsettled:
            stages.take(next_samples())  # or why there are none
        assessment, decision = stages.decide()

    Args:
        policy, certificate: as :meth:`Policy.decide` takes them.
        assess: gives the risk, by the stage that the signals are of.
        signals: of stage one, so without self-consistency.
        mode: ``never`` decides by stage one, ``always`` by stage two; ``auto`` goes on to stage two
            in the middle band alone.
        greedy: the answer. planned: how many samples there are to be.
    """

    def __init__(
        self,
        policy: Policy,
        certificate: Certificate | Missing,
        assess: Callable[[Signals], RiskAssessment],
        signals: Signals,
        *,
        mode: ConsistencyMode,
        greedy: str,
        planned: int,
    ) -> None:
        self._policy, self._certificate, self._assess = policy, certificate, assess
        self._signals, self._greedy, self._planned = signals, greedy, planned
        self.first = assess(signals)
        """The assessment of stage one."""
        self.samples: tuple[str, ...] | Missing | None = None
        """What was taken so far, or why it cannot be had; None where stage one decides."""
        if mode == "always" or (mode == "auto" and policy.middle_band(self.first, certificate)):
            self._policy = replace(policy, required=(*policy.required, "self_consistency"))
            self.samples = ()

    @property
    def unsettled(self) -> bool:
        """Whether samples still to come could change the decision."""
        if self.samples is None or isinstance(self.samples, Missing):
            return False
        return not settled(self._greedy, self.samples, self._planned, self._decision)

    def take(self, samples: Sequence[str] | Missing) -> None:
        """Take further samples, or the reason why no more can be had."""
        if isinstance(samples, Missing):
            self.samples = samples
        else:
            assert isinstance(self.samples, tuple)  # taken while unsettled
            self.samples += tuple(samples)

    def decide(self) -> tuple[RiskAssessment, Decision]:
        """The assessment of the stage that decides, and its decision."""
        assessment = self.first
        if self.samples is not None:
            consistency = (
                self.samples
                if isinstance(self.samples, Missing)
                else measure_consistency(self._greedy, self.samples, self._planned)
            )
            assessment = self._second(consistency)
        return assessment, self._policy.decide(assessment, self._certificate)

    def _second(self, consistency: SelfConsistency | Missing) -> RiskAssessment:
        return self._assess(replace(self._signals, self_consistency=consistency))

    def _decision(self, consistency: SelfConsistency | Missing) -> Decision:
        return self._policy.decide(self._second(consistency), self._certificate)
