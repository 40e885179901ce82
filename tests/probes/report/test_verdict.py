from __future__ import annotations

from typing import Any

from probes.report.verdict import verdict


def evaluation(certificate: bool = True, attention: tuple[float, float] = (0.4, 0.6)) -> Any:
    interval = {"estimate": 0.8, "lower": 0.7, "upper": 0.9}
    row: dict[str, Any] = {"alpha": 0.1, "self_consistency": "never"}
    if certificate:
        row |= {
            "certificate": {"threshold": 0.25, "delta": 0.05, "k": 3, "n": 100},
            "test": {"accepted": 50, "wrong": 4, "coverage": 0.5},
        }
    else:
        row |= {"none": {"reason": "error_rate_too_high", "answers": 100}}
    none = {"alpha": 0.05, "self_consistency": "never"}
    none |= {"none": {"reason": "error_rate_too_high", "answers": 100}}
    low, high = attention
    return {
        "serving_alpha": 0.1,
        "certificates": [row, none],
        "signals": {
            "risk": {
                "auroc": interval,
                "auroc_above_token_confidence": {"estimate": 0.1, "lower": 0.05, "upper": 0.2},
            },
            "attention_spatial_entropy": {
                "auroc": {"estimate": (low + high) / 2, "lower": low, "upper": high}
            },
        },
    }


def test_says_what_to_accept_and_how_sure_that_is() -> None:
    first, second, third, fourth = verdict(evaluation())
    assert first.startswith("Accept an answer when its risk is at most 0.250.")
    for fact in ("At most 10%", "confidence 95%", "3 wrong of 100", "50.0%", "8.0% are wrong"):
        assert fact in first
    assert second == "For an error rate of 5% nothing could be accepted."
    assert "80% of pairs [70%, 90%], better than token confidence alone" in third
    assert "no better than chance (AUROC 0.50 [0.40, 0.60])" in fourth


def test_certificates_of_slices_change_nothing() -> None:
    found = evaluation()
    (row, none) = found["certificates"]
    of_slices = [{**one, "slices": ["camera-2"]} for one in (none | {"alpha": 0.1}, row)]
    for certificates in ([*of_slices, row, none], [row, none, *of_slices]):
        assert verdict({**found, "certificates": certificates}) == verdict(found)


def test_without_a_certificate_nothing_is_accepted() -> None:
    assert verdict(evaluation(certificate=False))[0].startswith("Accept nothing: no threshold")
    untried = {**evaluation(), "serving_alpha": None, "certificates": []}
    assert verdict(untried)[0].startswith("Accept nothing yet")


def test_the_reason_is_told_by_what_was_tested() -> None:
    found = evaluation(certificate=False)
    none = found["certificates"][0]["none"]
    none |= {
        "threshold": 0.1,
        "k": 9,
        "n": 80,
        "groups": 300,
        "level": 0.04,
        "delta": 0.05,
        "more_groups": 120,
    }
    (first, *_) = verdict(found)
    for fact in (
        "error rate too high", "9 of 80 wrong", "300 groups", "0.04 of delta 0.05", "120 more",
    ):  # fmt: skip
        assert fact in first
    assert "delta" not in verdict(evaluation(certificate=False))[0]


def test_the_error_on_the_test_split_has_its_interval() -> None:
    found = evaluation()
    found["certificates"][0]["test"]["error"] = {"estimate": 0.08, "lower": 0.03, "upper": 0.19}
    assert "of which 8.0% [3.0%, 19.0%] are wrong" in verdict(found)[0]


def test_attention_that_tells_something_is_said_to() -> None:
    assert "as is believed" in verdict(evaluation(attention=(0.6, 0.7)))[-1]
    assert "against what is believed" in verdict(evaluation(attention=(0.3, 0.4)))[-1]
