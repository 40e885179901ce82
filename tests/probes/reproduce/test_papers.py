from __future__ import annotations

from collections import Counter

import pytest

from probes.reproduce.papers import (
    CLAIMS,
    above,
    below,
    costs,
    judge_claims,
    keeps,
    near,
    verdict_counts,
)


def interval(lower: float, upper: float) -> dict[str, float]:
    return {"estimate": (lower + upper) / 2, "lower": lower, "upper": upper}


@pytest.mark.parametrize(
    ("rule", "lower", "upper", "verdict"),
    [
        (near(0.0, 0.1), -0.05, 0.09, "seen"),
        (near(0.0, 0.1), -0.05, 0.11, "not seen"),
        (near(0.0, 0.1), 0.11, 0.2, "opposite"),
        (near(0.5, 0.05), 0.30, 0.44, "opposite"),
        (above(0.7, 0.6), 0.71, 0.8, "seen"),
        (above(0.7, 0.6), 0.55, 0.71, "not seen"),
        (above(0.7, 0.6), 0.5, 0.59, "opposite"),
        (below(0.6), 0.5, 0.6, "seen"),
        (below(0.6), 0.55, 0.65, "not seen"),
        (below(0.6), 0.61, 0.65, "opposite"),
    ],
)
def test_rules_on_intervals(rule, lower: float, upper: float, verdict: str) -> None:
    assert rule[1](interval(lower, upper)) == verdict


@pytest.mark.parametrize(
    ("p_value", "broken", "mended", "verdict"),
    [(0.04, 9, 1, "seen"), (0.06, 9, 1, "not seen"), (0.04, 1, 9, "opposite")],
)
def test_cost_rule(p_value: float, broken: int, mended: int, verdict: str) -> None:
    assert costs()[1]({"p_value": p_value, "broken": broken, "mended": mended}) == verdict


def test_keep_rule() -> None:
    verdicts = [
        keeps(1.0)[1]({"drop": interval(*bounds)})
        for bounds in ((-0.01, 0.01), (0.005, 0.02), (0.011, 0.02))
    ]
    assert verdicts == ["seen", "not seen", "opposite"]


def test_a_claim_without_a_value_has_no_verdict() -> None:
    judged = judge_claims({"r_clusters": {"missing": "one_class"}}, "llava")
    assert [one["verdict"] for one in judged] == [None] * len(CLAIMS)
    reasons = Counter(one["ours"]["missing"] for one in judged)
    assert reasons == {"one_class": 1, "not_measured": len(CLAIMS) - 1}


def test_claims_about_other_families_are_not_counted() -> None:
    value = {"ablated_half": {"drop": interval(-0.01, 0.0)}, "r_clusters": interval(-0.3, -0.2)}
    for family, seen in (("llava", 0), ("qwen2vl", 1)):
        counts = verdict_counts(judge_claims(value, family))
        assert counts == {"seen": seen, "not seen": 0, "opposite": 1}
