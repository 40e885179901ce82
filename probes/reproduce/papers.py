"""What the papers claim, and the rule by which a result of ours counts as seen or not.

Numbers are of arXiv 2605.08200 and 2606.17389 for LLaVA-1.5-7B / PaliGemma-3B / Qwen2-VL-7B, or
pooled. Their POPE stands beside our yes/no questions, their VQA v2 beside our other ones.

A *near* claim is seen where the whole interval lies within a margin of the claimed value, opposite
where it lies wholly outside. An *above* claim is seen where the interval lies above a limit,
opposite where it lies below another. A *cost* claim is seen where accuracy is lost with p < 0.05,
opposite where it is gained with p < 0.05. Everything else is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["seen", "not seen", "opposite"]
VERDICTS: tuple[Verdict, ...] = ("seen", "not seen", "opposite")
LEVEL = 0.05
Value = Mapping[str, Any]
"""An interval, or ``{"missing": reason}``, or a :class:`~probes.stats.paired.Lost`, as JSON."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    Args:
        name: of our value, in the mapping that is judged.
        text: what is claimed.
        papers: their number.
        rule: how it is judged, in words.
        judge: the rule.
        families: whom it is about; empty for all.
    """

    name: str
    text: str
    papers: str
    rule: str
    judge: Callable[[Value], Verdict]
    families: tuple[str, ...] = ()


def near(middle: float, margin: float) -> tuple[str, Callable[[Value], Verdict]]:
    """Seen within ``middle`` plus or minus ``margin``, opposite outside."""
    low, high = middle - margin, middle + margin

    def judge(value: Value) -> Verdict:
        if low <= value["lower"] and value["upper"] <= high:
            return "seen"
        return "opposite" if value["lower"] > high or value["upper"] < low else "not seen"

    return f"interval within {low:g} to {high:g}; opposite: wholly outside", judge


def above(limit: float, opposite: float) -> tuple[str, Callable[[Value], Verdict]]:
    """Seen above ``limit``, opposite below ``opposite``."""

    def judge(value: Value) -> Verdict:
        if value["lower"] > limit:
            return "seen"
        return "opposite" if value["upper"] < opposite else "not seen"

    return f"interval above {limit:g}; opposite: below {opposite:g}", judge


def below(limit: float) -> tuple[str, Callable[[Value], Verdict]]:
    """Seen at most ``limit``, opposite above it."""

    def judge(value: Value) -> Verdict:
        if value["upper"] <= limit:
            return "seen"
        return "opposite" if value["lower"] > limit else "not seen"

    return f"interval up to {limit:g}; opposite: above it", judge


def costs() -> tuple[str, Callable[[Value], Verdict]]:
    """Seen where accuracy is lost."""

    def judge(value: Value) -> Verdict:
        if value["p_value"] >= LEVEL:
            return "not seen"
        return "seen" if value["broken"] > value["mended"] else "opposite"

    return f"accuracy lost, McNemar p < {LEVEL:g}; opposite: gained", judge


def keeps(points: float) -> tuple[str, Callable[[Value], Verdict]]:
    """Seen where accuracy stays within some points."""
    limit = points / 100

    def judge(value: Value) -> Verdict:
        drop = value["drop"]
        if drop["upper"] <= limit:
            return "seen"
        return "opposite" if drop["lower"] > limit else "not seen"

    return f"interval of the drop up to {points:g} points; opposite: above", judge


R_ENTROPY, R_CLUSTERS = "-0.012 [-0.047, 0.024]", "0.001 [-0.034, 0.036]"
CLAIMS: tuple[Claim, ...] = (
    Claim("r_spatial_entropy", "Attention entropy H_s does not correlate with being right (R_pb)",
          R_ENTROPY, *near(0.0, 0.1)),
    Claim("r_clusters", "Nor does C_k, components of the top-30 % mask (R_pb)",
          R_CLUSTERS, *near(0.0, 0.1)),
    Claim("r_clusters_dbscan", "Nor does the earlier C_k, DBSCAN above the 90th percentile (R_pb)",
          R_CLUSTERS, *near(0.0, 0.1)),
    Claim("yes_no_spatial_entropy", "H_s ranks yes/no answers no better than chance (AUROC)",
          ".50 / .50 / .50", *near(0.5, 0.05)),
    Claim("yes_no_clusters", "C_k ranks yes/no answers no better than chance (AUROC)",
          ".50 / .50 / .50", *near(0.5, 0.05)),
    Claim("yes_no_entropy", "Nor does the entropy of the logits (AUROC)",
          ".50 / .52 / .51", *near(0.5, 0.05)),
    Claim("yes_no_confidence", "Output confidence hardly ranks yes/no answers (AUROC)",
          ".54 / .55 / .53", *below(0.60)),
    Claim("yes_no_probe", "The hidden-state probe ranks yes/no answers well (AUROC)",
          ".956 / .738 / .971", *above(0.70, 0.60)),
    Claim("yes_no_probe_above_confidence", "The probe beats output confidence on yes/no (AUROC)",
          "+.42 / +.19 / +.44", *above(0.0, 0.0)),
    Claim("yes_no_consistency", "Self-consistency at K = 10 ranks yes/no answers well (AUROC)",
          ".78 / .81 / .79", *above(0.70, 0.60)),
    Claim("r_consistency", "Self-consistency correlates with being right, pooled (R_pb)",
          "0.43", *above(0.30, 0.10)),
    Claim("yes_no_probe_above_consistency", "The probe beats self-consistency on yes/no (AUROC)",
          "+.18 / - / +.18", *above(0.0, 0.0), families=("llava", "qwen2vl")),
    Claim("yes_no_consistency_above_probe", "Self-consistency beats the probe on yes/no (AUROC)",
          "- / +.07 / -", *above(0.0, 0.0), families=("paligemma",)),
    Claim("open_probe_above_confidence", "On VQA v2 the probe beats output confidence (AUROC)",
          ".559 -> .745 / - / -", *above(0.0, 0.0), families=("llava",)),
    Claim("open_confidence_above_probe", "On VQA v2 output confidence beats the probe (AUROC)",
          "- / .892 -> .795 / .892 -> .778", *above(0.0, 0.0), families=("paligemma", "qwen2vl")),
    Claim("masked_top30", "Masking the top-30 % attended patches costs accuracy",
          "8.2 to 11.3 points, p < 0.001", *costs()),
    Claim("masked_top30_against_random30", "It costs more than masking 30 % at random",
          "not tested", *costs()),
    Claim("ablated_few", "Ablating the 5 top probe neurons costs accuracy",
          "8.3 points / - / -", *costs(), families=("llava",)),
    Claim("ablated_few_against_random", "It costs more than ablating 5 random ones",
          "not told", *above(0.0, 0.0)),
    Claim("ablated_half", "Half of the peak layer's neurons can be ablated within 1 point",
          "- / within 1 / within 1", *keeps(1.0), families=("paligemma", "qwen2vl")),
)  # fmt: skip


def judge_claims(values: Mapping[str, Value], family: str) -> list[dict[str, Any]]:
    """Judge every claim: our value and the verdict, ``None`` where there is no value.

    Args:
        values: ours, by the claims' names.
        family: of the model; a claim about other families is judged too, and marked.
    """
    found = []
    for claim in CLAIMS:
        value = values.get(claim.name, {"missing": "not_measured"})
        verdict = None if "missing" in value or _no_drop(value) else claim.judge(value)
        about = not claim.families or family in claim.families
        found.append(
            {
                "name": claim.name,
                "claim": claim.text,
                "papers": claim.papers,
                "rule": claim.rule,
                "about_this_family": about,
                "ours": value,
                "verdict": verdict,
            }
        )
    return found


def _no_drop(value: Value) -> bool:
    return "missing" in value.get("drop", {})


def verdict_counts(claims: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the claims about this family that were seen, not seen, opposite."""
    told = [one["verdict"] for one in claims if one["about_this_family"]]
    return {verdict: told.count(verdict) for verdict in VERDICTS}
