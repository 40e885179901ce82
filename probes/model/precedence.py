"""The reason of a decision: the first of :data:`RULES` that holds.

What is wrong with the request comes first, then with its answer (a foreign picture is why a model
stammers), then what could not be measured or promised, and the risk last. docs/records.md shows the
same table, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probes.model.certificate import Certificate
from probes.types import (
    AnswerForm,
    Domain,
    ImageCondition,
    Missing,
    Reason,
    RiskAssessment,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules see of an answer.

    Args:
        assessment: the risk and the signals that it was made from.
        required: names of the signals without which nothing is accepted.
        certificate: or why there is none; None where the policy wants none (manual mode).
        accept_below: threshold in force; None accepts nothing.
        reject_above: likewise; None rejects nothing.
    """

    assessment: RiskAssessment
    required: tuple[str, ...]
    certificate: Certificate | Missing | None
    accept_below: float | None
    reject_above: float | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason, its decision, and when it holds.

    ``holds`` may rely on no earlier rule holding: after ``signal_unavailable`` there is a risk.
    """

    reason: Reason
    decision: Verdict
    holds: Callable[[Case], bool]


def _damaged(case: Case) -> bool:
    image = case.assessment.signals.image
    return isinstance(image, ImageCondition) and image.damaged


def _degenerate(case: Case) -> bool:
    form = case.assessment.signals.answer_form
    return isinstance(form, AnswerForm) and form.degenerate is not None


def _unavailable(case: Case) -> bool:
    signals = case.assessment.signals
    absent = any(isinstance(getattr(signals, name), Missing) for name in case.required)
    return absent or isinstance(case.assessment.score, Missing)


def _outside(case: Case) -> bool:
    domain = case.assessment.signals.domain
    return isinstance(domain, Domain) and not domain.inside


def _above(case: Case, threshold: float) -> bool:
    risk = case.assessment.score
    return not isinstance(risk, Missing) and risk > threshold


RULES: tuple[Rule, ...] = (
    Rule("damaged_image", "escalate", _damaged),
    # A picture outside the site's profile has its place here.
    Rule("out_of_domain", "escalate", _outside),
    Rule("degenerate_answer", "escalate", _degenerate),
    Rule("signal_unavailable", "escalate", _unavailable),
    Rule(
        "certificate_void",
        "escalate",
        lambda case: case.certificate == Missing("certificate_void"),
    ),
    Rule("no_certificate", "escalate", lambda case: isinstance(case.certificate, Missing)),
    Rule(
        "risk_above_reject",
        "reject",
        lambda case: case.reject_above is not None and _above(case, case.reject_above),
    ),
    Rule(
        "risk_above_threshold",
        "escalate",
        lambda case: case.accept_below is None or _above(case, case.accept_below),
    ),
    Rule("risk_below_threshold", "accept", lambda case: True),
)
"""First to last."""
