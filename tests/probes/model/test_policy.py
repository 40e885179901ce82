from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from probes.guarantee.composed import composed_risk
from probes.model.certificate import Certificate
from probes.model.policy import Policy, settled
from probes.types import (
    CONSISTENCY_MODES,
    Decision,
    Domain,
    HiddenStateProbe,
    ImageDomain,
    Missing,
    RiskAssessment,
    SelfConsistency,
    Signals,
    TokenConfidence,
)

CERTIFICATE = Certificate(
    "c-1", 0.1, 0.05, 100, 2, 0.3, "never", 0, "b-1", "r1", "d", "2026-01-01T00:00:00+00:00",
    "2027-01-01T00:00:00+00:00",
)  # fmt: skip
NONE = Missing("no_certificate")


def assessment(
    score: float | Missing, *, inside: bool = True, probe: bool = True, domain: bool = True
) -> RiskAssessment:
    signals = Signals(
        hidden_state_probe=HiddenStateProbe(0.0, (1,)) if probe else Missing("engine_error"),
        token_confidence=TokenConfidence(-0.1, 0.1, 1.0),
        self_consistency=Missing("not_requested"),
        attention=Missing("not_requested"),
        evidence=Missing("not_requested"),
        domain=Domain((ImageDomain(1.0, inside),)) if domain else Missing("engine_error"),
    )
    return RiskAssessment(score, 1, signals)


@pytest.mark.parametrize(
    ("judged", "certificate", "expected"),
    [
        (assessment(0.3), CERTIFICATE, ("accept", "risk_below_threshold")),
        (assessment(0.31), CERTIFICATE, ("escalate", "risk_above_threshold")),
        (assessment(0.81), CERTIFICATE, ("reject", "risk_above_reject")),
        (assessment(0.9, inside=False), CERTIFICATE, ("escalate", "out_of_domain")),
        (assessment(0.1, inside=False), NONE, ("escalate", "out_of_domain")),
        (assessment(0.1), NONE, ("escalate", "no_certificate")),
        (assessment(0.1), Missing("certificate_void"), ("escalate", "certificate_void")),
        (assessment(Missing("x")), NONE, ("escalate", "signal_unavailable")),
        (assessment(0.1, probe=False), CERTIFICATE, ("escalate", "signal_unavailable")),
        (assessment(0.1, domain=False), CERTIFICATE, ("escalate", "signal_unavailable")),
    ],
)
def test_rules_in_their_order(
    judged: RiskAssessment, certificate: Any, expected: tuple[str, str]
) -> None:
    decision = Policy(reject_above=0.8).decide(judged, certificate)
    assert (decision.decision, decision.reason) == expected
    assert decision.certificate == ("c-1" if certificate is CERTIFICATE else None)


def test_manual_mode_ignores_certificates_and_promises_nothing() -> None:
    decision = Policy(mode="manual", accept_below=0.2).decide(assessment(0.25), CERTIFICATE)
    assert (decision.decision, decision.accept_below) == ("escalate", 0.2)
    assert decision.certificate is None
    assert Policy(mode="manual").decide(assessment(0.0), NONE).decision == "escalate"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accept_below": 0.1}, "comes from the certificate"),
        ({"mode": "manual", "accept_below": math.nan}, "accept_below"),
        ({"reject_above": 1.5}, "reject_above"),
        ({"mode": "manual", "accept_below": 0.5, "reject_above": 0.4}, "lies below"),
    ],
)
def test_impossible_policies_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**arguments)


def test_only_a_plain_escalation_for_risk_is_worth_sampling() -> None:
    policy = Policy(reject_above=0.8)
    assert policy.middle_band(assessment(0.5), CERTIFICATE)
    assert not policy.middle_band(assessment(0.2), CERTIFICATE)
    assert not policy.middle_band(assessment(0.9), CERTIFICATE)
    assert not policy.middle_band(assessment(0.5, inside=False), CERTIFICATE)
    assert not policy.middle_band(assessment(0.5), NONE)
    assert not Policy(mode="manual").middle_band(assessment(0.5), NONE)


def decide_at(least: float) -> Any:
    def decide(consistency: SelfConsistency | Missing) -> Decision:
        enough = isinstance(consistency, SelfConsistency) and consistency.agreement >= least
        return Decision(
            "accept" if enough else "escalate", "risk_below_threshold", None, None, None
        )

    return decide


@pytest.mark.parametrize(
    ("samples", "least", "expected"),
    [
        (["yes"] * 5, 0.5, True),
        (["yes"] * 5, 0.6, False),
        (["no"] * 5, 0.6, True),
        (["no"] * 5, 0.5, False),
        (["yes", "no", "yes", "no", "yes"], 0.9, True),
        ([], 0.5, False),
        (["no"] * 10, 0.1, True),
        (["There is one."] * 5, 0.5, True),
        (["There is one."] * 5, 0.6, False),
        (["I do not know"] * 5, 0.6, True),
    ],
)
def test_sampling_stops_only_when_nothing_can_change(
    samples: list[str], least: float, expected: bool
) -> None:
    assert settled("yes", samples, 10, decide_at(least)) is expected


@pytest.mark.parametrize("mode", CONSISTENCY_MODES)
@pytest.mark.parametrize("reject_above", [None, 0.7])
def test_composed_risk_accepts_what_the_policy_accepts(
    mode: Any, reject_above: float | None
) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 500)).round(2)
    first[::17] = math.inf
    inside = rng.random(500) < 0.8
    policy = Policy(reject_above=reject_above)
    risk = composed_risk(first, second, inside, mode, reject_above)
    for threshold in (0.0, 0.3, 0.5):
        certificate = replace(CERTIFICATE, threshold=threshold)

        def decide(score: float, row: int, certificate: Certificate = certificate) -> Any:
            known = Missing("x") if math.isinf(score) else float(score)
            return assessment(known, inside=bool(inside[row])), certificate

        for row in range(500):
            one = decide(first[row], row)
            accepted = policy.decide(*one).decision == "accept"
            if mode == "always" or (mode == "auto" and policy.middle_band(*one)):
                accepted = policy.decide(*decide(second[row], row)).decision == "accept"
            assert accepted == (risk[row] <= threshold)


def test_composed_risk_needs_the_second_stage() -> None:
    with pytest.raises(ValueError, match="stage_two"):
        composed_risk(np.zeros(1), None, np.ones(1, dtype=bool), "auto", None)
