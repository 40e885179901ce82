from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from probes.guarantee.composed import composed_reject, composed_risk
from probes.model.certificate import Certificate
from probes.model.policy import Policy, PolicyMode, TwoStages, settled
from probes.signals.sampling import CHUNK
from probes.types import (
    CONSISTENCY_MODES,
    ConsistencyMode,
    Decision,
    Domain,
    FloatArray,
    HiddenStateProbe,
    ImageDomain,
    Missing,
    RiskAssessment,
    SelfConsistency,
    Signals,
    TokenConfidence,
    Verdict,
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


SAMPLES = 7
"""Sampled in chunks of :data:`CHUNK`, so that the last one is shorter."""


class Answers:
    """Random answers: both risks, the samples, and whether the policy looks at them at all.

    Risks are rounded, so that many of them lie exactly on a threshold.

    Attributes:
        first: risk of stage one, (n,); infinite where it is missing.
        agreeing: per answer and sample, whether it says what the answer does, (n, SAMPLES).
        table: risk of stage two by the number of agreeing ones, (n, SAMPLES + 1); infinite where it
            is missing. Any function will do, not only one that falls.
        inside: of the domain, (n,). empty: the answer says nothing, so no sample agrees with it.
    """

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.first = rng.random(count).round(1)
        self.first[rng.random(count) < 0.1] = math.inf
        self.agreeing = rng.random((count, SAMPLES)) < rng.random((count, 1))
        self.table = rng.random((count, SAMPLES + 1)).round(1)
        falling = rng.random(count) < 0.7
        self.table[falling] = -np.sort(-self.table[falling])
        self.table[rng.random(count) < 0.1] = math.inf
        self.inside = rng.random(count) < 0.8
        self.empty = rng.random(count) < 0.1

    @property
    def second(self) -> FloatArray:
        """Risk of stage two with all samples, (n,)."""
        rows = np.arange(len(self.first))
        return np.where(self.empty, math.inf, self.table[rows, self.agreeing.sum(axis=1)])

    def assess(self, row: int, signals: Signals) -> RiskAssessment:
        """As a bundle does: stage two wherever there is any word of samples.

        Where they say nothing there is a risk all the same: that the policy requires them counts.
        """
        consistency, score = signals.self_consistency, self.first[row]
        stage = 1 if consistency == Missing("not_requested") else 2
        if isinstance(consistency, SelfConsistency):
            score = self.table[row, round(consistency.agreement * SAMPLES)]
        return RiskAssessment(Missing("x") if math.isinf(score) else float(score), stage, signals)  # type: ignore[arg-type]

    def decide(
        self, row: int, policy: Policy, certificate: Certificate | Missing, mode: ConsistencyMode
    ) -> tuple[Verdict, int]:
        """What one answer's way through both stages comes to, and how many samples it took."""
        stages = TwoStages(
            policy,
            certificate,
            partial(self.assess, row),
            assessment(0.0, inside=bool(self.inside[row])).signals,
            mode=mode,
            greedy="I do not know" if self.empty[row] else "yes",
            planned=SAMPLES,
        )
        drawn = 0
        while stages.unsettled:
            chunk = self.agreeing[row, drawn : drawn + CHUNK]
            stages.take(tuple("yes" if one else f"other {i}" for i, one in enumerate(chunk, drawn)))
            drawn += len(chunk)
        return stages.decide()[1].decision, drawn


@pytest.mark.parametrize("mode", CONSISTENCY_MODES)
@pytest.mark.parametrize("reject_above", [None, 0.7])
@pytest.mark.parametrize("kind", ["certified", "manual"])
def test_many_at_once_are_decided_as_each_alone(
    mode: ConsistencyMode, reject_above: float | None, kind: PolicyMode
) -> None:
    answers, count = Answers(np.random.default_rng(5), 150), 150
    found = answers.first, answers.second, answers.inside, mode, reject_above
    risk, drawn = composed_risk(*found), set()
    for threshold in (0.0, 0.3, 0.7):
        certified = kind == "certified"
        policy = Policy(
            mode=kind, accept_below=None if certified else threshold, reject_above=reject_above
        )
        certificate = replace(CERTIFICATE, threshold=threshold) if certified else NONE
        rejected = composed_reject(*found, threshold)
        assert not (rejected & (risk <= threshold)).any()
        for row in range(count):
            verdict, samples = answers.decide(row, policy, certificate, mode)
            expected = (
                "accept" if risk[row] <= threshold else "reject" if rejected[row] else "escalate"
            )
            assert verdict == expected, (row, threshold)
            drawn.add(samples)
    assert drawn == (
        {0} if mode == "never" else {CHUNK, SAMPLES} | ({0} if mode == "auto" else set())
    )


def test_composed_risk_needs_the_second_stage() -> None:
    with pytest.raises(ValueError, match="stage_two"):
        composed_risk(np.zeros(1), None, np.ones(1, dtype=bool), "auto", None)
