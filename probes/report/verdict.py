"""The verdict: what to accept, at which risk, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.model.certificate import NoCertificate
from probes.report.table import format_interval

NOTHING_KNOWN = "tells right from wrong no better than chance"


def verdict(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Return plain sentences, most important first."""
    return (
        _acceptance(evaluation),
        *_other_alphas(evaluation),
        _ranking(evaluation["signals"]),
        *_attention(evaluation["signals"]),
    )


def _acceptance(evaluation: Mapping[str, Any]) -> str:
    alpha = evaluation["serving_alpha"]
    if alpha is None:
        return "Accept nothing yet: no certificate was tried for. Run certify."
    row = _row(evaluation, alpha)
    if row is None or "certificate" not in row:
        return (
            f"Accept nothing: no threshold passed at an error rate of {_percent(alpha)}"
            f"{'' if row is None else _why(row['none'])}. Every answer goes to a person."
        )
    one, test = row["certificate"], row["test"]
    share = f", of which {error_on_test(test)} are wrong" if test["accepted"] else ""
    unit = one.get("unit", "image")
    return (
        f"Accept an answer when its risk is at most {one['threshold']:.3f}. At most "
        f"{_percent(alpha)} of the accepted answers are then wrong, for {unit}s like those of "
        f"calibration, with confidence {_percent(1 - one['delta'])} "
        f"({one['k']} wrong of {one['n']} when calibrated). On the test split this accepts "
        f"{test['coverage']:.1%} of the answers{share}. Everything else goes to a person."
    )


def error_on_test(test: Mapping[str, Any]) -> str:
    """Describe the share of wrong answers among those that a threshold accepts, at least one."""
    if "error" in test:
        return format_interval(test["error"], percent=True)
    return f"{test['wrong'] / test['accepted']:.1%}"


def tested_without(none: Mapping[str, Any]) -> str:
    """Describe what was tested without a certificate, as far as the evaluation knows it."""
    if none.get("n") is None or none.get("k") is None:
        return ""
    return f"{none['k']} of {none['n']} at the first threshold"


def _why(none: Mapping[str, Any]) -> str:
    return f" ({NoCertificate(**none).told()})"


def _percent(alpha: float) -> str:
    return f"{100 * alpha:.4g}%"


def _other_alphas(evaluation: Mapping[str, Any]) -> list[str]:
    alphas = {row["alpha"] for row in evaluation["certificates"]} - {evaluation["serving_alpha"]}
    sentences = []
    for alpha in sorted(alphas):
        row = _row(evaluation, alpha)
        if row is None:
            continue
        if "certificate" in row:
            sentences.append(
                f"For an error rate of {_percent(alpha)} the risk must be at most "
                f"{row['certificate']['threshold']:.3f}, and {row['test']['coverage']:.1%} of the "
                "answers of the test split are accepted."
            )
        else:
            why = _why(row["none"]) if "n" in row["none"] else ""
            sentences.append(
                f"For an error rate of {_percent(alpha)} nothing could be accepted{why}."
            )
    return sentences


def _row(evaluation: Mapping[str, Any], alpha: float) -> Mapping[str, Any] | None:
    rows = [
        row
        for row in evaluation["certificates"]
        if row["alpha"] == alpha and row["self_consistency"] == "never" and not row.get("slices")
    ]
    return rows[0] if rows else None


def _ranking(signals: Mapping[str, Any]) -> str:
    risk = signals["risk"]["auroc"]
    if "missing" in risk:
        return f"How well the risk ranks answers could not be judged: {risk['missing']}."
    text = (
        "The risk ranks a wrong answer above a right one in "
        f"{risk['estimate']:.0%} of pairs [{risk['lower']:.0%}, {risk['upper']:.0%}]"
    )
    ahead = signals["risk"].get("auroc_above_token_confidence", {"missing": "no_baseline"})
    if "missing" in ahead:
        return f"{text}."
    if ahead["lower"] > 0:
        return f"{text}, better than token confidence alone."
    if ahead["upper"] < 0:
        return f"{text}, worse than token confidence alone."
    return f"{text}, no better and no worse than token confidence alone."


def _attention(signals: Mapping[str, Any]) -> list[str]:
    row = signals.get("attention_spatial_entropy", {}).get("auroc")
    if row is None or "missing" in row:
        return []
    says = (
        NOTHING_KNOWN
        if row["lower"] <= 0.5 <= row["upper"]
        else "goes with right answers, as is believed"
        if row["lower"] > 0.5
        else "goes with wrong answers, against what is believed"
    )
    return [
        f"A sharp attention map {says} (AUROC {row['estimate']:.2f} "
        f"[{row['lower']:.2f}, {row['upper']:.2f}]); it is never decided on."
    ]
