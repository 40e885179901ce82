"""From a risk to a decision, by the rules of :mod:`probes.model.precedence`, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probes.guarantee.learn_then_test import Certificate
from probes.model.precedence import RULES, Case
from probes.signals.consistency import completed_consistency, measure_consistency
from probes.types import (
    ConsistencyMode,
    Decision,
    FloatArray,
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


def composed_risk(
    stage_one: FloatArray,
    stage_two: FloatArray | None,
    inside: NDArray[np.bool_],
    mode: ConsistencyMode,
    reject_above: float | None,
) -> FloatArray:
    """The least threshold at which the whole policy accepts each answer; infinite when never.

    Turns stage one, self-consistency in the middle band, the out-of-domain rule and rejection into
    one number, so that the policy is certified as it decides.

    Args:
        stage_one: risk without self-consistency, (answers,); infinite where it is missing.
        stage_two: risk with it, likewise; not needed in mode ``never``.
        inside: within the domain of validity, and no degenerate answer, (answers,).
        mode: ``never`` decides on stage one, ``always`` on stage two; in ``auto`` an acceptance by
            stage one stands, and another answer gets stage two unless stage one rejects it.
        reject_above: risk above which an answer is rejected; ``None`` rejects nothing.
    """
    limit = np.inf if reject_above is None else reject_above
    if mode == "never":
        risk = stage_one
    elif stage_two is None:
        raise ValueError(f"stage_two: needed in mode {mode!r}")
    elif mode == "always":
        risk = stage_two
    else:
        known = np.isfinite(stage_one) & (stage_one <= limit)
        risk = np.where(known, np.minimum(stage_one, stage_two), np.inf)
    return np.asarray(np.where(inside & (risk <= limit), risk, np.inf), dtype=np.float64)


def composed_reject(
    stage_one: FloatArray,
    stage_two: FloatArray | None,
    inside: NDArray[np.bool_],
    mode: ConsistencyMode,
    reject_above: float | None,
    accept_below: float,
) -> NDArray[np.bool_]:
    """Which answers the whole policy rejects at a threshold, (answers,).

    Arguments as :func:`composed_risk`; ``accept_below`` matters in mode ``auto``, where an answer
    that stage one accepts is not asked again. It may be minus infinity.
    """
    if reject_above is None:
        return np.zeros(len(stage_one), dtype=bool)

    def above(risk: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(risk) & (risk > reject_above))

    if mode == "never":
        return np.asarray(inside & above(stage_one))
    if stage_two is None:
        raise ValueError(f"stage_two: needed in mode {mode!r}")
    if mode == "always":
        return np.asarray(inside & above(stage_two))
    asked = np.isfinite(stage_one) & (stage_one > accept_below)
    return np.asarray(inside & (above(stage_one) | (asked & above(stage_two))))
