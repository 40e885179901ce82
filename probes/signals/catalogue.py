"""Every number that a signal gives: its name in reports, where it is found, and its sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Score:
    """One number of a signal.

    Args:
        signal: name of the field of :class:`~probes.types.Signals`.
        field: of that signal.
        sign: makes higher mean riskier, in the direction that the signal's proponents claim.
        feature: its name in a :class:`~probes.model.risk.RiskModel`, or None where no risk is ever
            made of it.
    """

    signal: str
    field: str
    sign: Literal[1, -1]
    feature: str | None = None


SCORES: Mapping[str, Score] = {
    "hidden_state_probe": Score("hidden_state_probe", "logit", 1, "probe_logit"),
    "token_confidence": Score("token_confidence", "mean_logprob", -1, "mean_logprob"),
    "first_token_entropy": Score(
        "token_confidence", "first_token_entropy", 1, "first_token_entropy"
    ),
    "first_token_margin": Score("token_confidence", "margin", -1, "margin"),
    "self_consistency": Score("self_consistency", "agreement", -1, "agreement"),
    "attention_spatial_entropy": Score("attention", "spatial_entropy", 1),
    "attention_top30_mass": Score("attention", "top30_mass", -1),
    "attention_image_mass": Score("attention", "image_mass", -1),
    "attention_clusters": Score("attention", "clusters", 1),
    "domain_distance": Score("domain", "distance", 1),
}
"""By the name that evaluations, reports and metrics give them, in their order.

Concentrated attention is claimed to mean a right answer; it is compared with, never decided on.
"""

FEATURES: Mapping[str, Score] = {
    score.feature: score for score in SCORES.values() if score.feature is not None
}
"""What a risk may be made of, by the name of the feature."""

TOKEN_FEATURES: tuple[str, ...] = tuple(
    name for name, score in FEATURES.items() if score.signal == "token_confidence"
)

ATTENTION_SIGNS: Mapping[str, Literal[1, -1]] = {
    **{score.field: score.sign for score in SCORES.values() if score.signal == "attention"},
    "clusters_dbscan": 1,
}
"""Sign of every metric of attention that a store holds, in the order of its columns.

The clusters of DBSCAN are in no signal: only the comparison with the papers measures them.
"""
