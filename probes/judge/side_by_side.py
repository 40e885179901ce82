"""Signals judged side by side on the same answers, with intervals bootstrapped by image.

Every signal is turned so that higher means riskier, in the direction that its proponents claim.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.base_accuracy import base_accuracy
from probes.data.columns import StoreView, measure_risk
from probes.data.store import Store
from probes.signals.catalogue import SCORES, Score
from probes.stats import metrics
from probes.stats.bootstrap import Metric, cluster_bootstrap, paired_difference
from probes.types import FloatArray, Missing

RISK_LEVELS = (0.01, 0.05, 0.10, 0.20)
BASELINE = "token_confidence"
RISKS = ("risk", "risk_with_self_consistency")
METRICS: Mapping[str, Metric] = {
    "auroc": metrics.auroc,
    "point_biserial": metrics.point_biserial,
    "aurc": metrics.aurc,
    "e_aurc": metrics.e_aurc,
    **{
        f"coverage_at_{level:.0%}": functools.partial(metrics.coverage_at_risk, level=level)
        for level in RISK_LEVELS
    },
}
CALIBRATION_METRICS: Mapping[str, Metric] = {"brier": metrics.brier, "ece": metrics.ece}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Answers on which every available signal is there.

    Args:
        rows: which answers of the store, (n,), m of them.
        scores: signal name to score, higher is riskier, (m,).
        missing: signal name to why it is nowhere.
        dropped: answers of the split left out because some signal is missing there.
    """

    rows: NDArray[np.bool_]
    scores: Mapping[str, FloatArray]
    missing: Mapping[str, str]
    dropped: int


def judge(view: StoreView, rows: NDArray[np.bool_]) -> Judged:
    """Score every signal at the rows that have all the signals that were collected."""
    bundle, columns = view.bundle, view.columns
    first = measure_risk(columns, bundle.stage_one)
    found: dict[str, tuple[FloatArray, NDArray[np.bool_]]] = {"risk": (first, np.isfinite(first))}
    if not isinstance(bundle.stage_two, Missing):
        second = measure_risk(columns, bundle.stage_two)
        found["risk_with_self_consistency"] = second, np.isfinite(second)
    for name, score in SCORES.items():
        value, known = _score(view, score)
        found[name] = score.sign * value, known
    usable = {name: pair for name, pair in found.items() if (pair[1] & rows).any()}
    complete = rows & np.logical_and.reduce([known for _, known in usable.values()])
    return Judged(
        rows=complete,
        scores={name: score[complete] for name, (score, _) in usable.items()},
        missing={name: "not_collected" for name in found if name not in usable},
        dropped=int(rows.sum() - complete.sum()),
    )


def _score(view: StoreView, score: Score) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return one score of every answer, (n,), and whether it is known, (n,)."""
    if score.feature is not None:
        return view.columns.values[score.feature], view.columns.known[score.feature]
    if score.signal == "domain":
        return view.distance
    signals = [getattr(record, score.signal) for record in view.store.records]
    known = np.array([not isinstance(one, Missing) for one in signals], dtype=bool)
    values = [0.0 if isinstance(one, Missing) else getattr(one, score.field) for one in signals]
    return np.array(values, dtype=np.float64), known


def signal_table(store: Store, judged: Judged, resamples: int) -> dict[str, Any]:
    """Compute per signal every metric, and the paired difference of AUROC to token confidence."""
    wrong, groups = store.wrong[judged.rows], store.groups[judged.rows]
    table: dict[str, Any] = dict(
        cluster_bootstrap(METRICS, judged.scores, wrong, groups, resamples=resamples)
    )
    risks = {name: judged.scores[name] for name in RISKS if name in judged.scores}
    for name, row in cluster_bootstrap(
        CALIBRATION_METRICS, risks, wrong, groups, resamples=resamples
    ).items():
        table[name] |= row
    for name, score in judged.scores.items():
        if name != BASELINE and BASELINE in judged.scores:
            table[name]["auroc_above_token_confidence"] = paired_difference(
                metrics.auroc, score, judged.scores[BASELINE], wrong, groups, resamples=resamples
            )
    return table


def accuracy_table(store: Store, rows: NDArray[np.bool_], resamples: int) -> dict[str, Any]:
    """Accuracy overall and per kind of question, beside the rate of the commonest right answer."""
    kinds = np.array([record.kind for record in store.records], dtype=np.str_)
    parts = {"all": rows} | {str(kind): rows & (kinds == kind) for kind in np.unique(kinds[rows])}
    table: dict[str, Any] = {}
    for name, part in parts.items():
        wrong, groups = store.wrong[part], store.groups[part]
        found = cluster_bootstrap(
            {"accuracy": accuracy}, {"": np.zeros(wrong.size)}, wrong, groups, resamples=resamples
        )[""]["accuracy"]
        base = base_accuracy([store.records[row] for row in np.flatnonzero(part)])[0]
        table[name] = {
            "answers": base.answers,
            "accuracy": found,
            "majority_answer": base.majority_answer,
            "majority_rate": base.majority_rate,
            "below_majority": base.below_majority,
        }
    return table


def accuracy(
    risk: FloatArray, wrong: NDArray[np.bool_], weight: FloatArray | None = None
) -> float | Missing:
    """One minus the error rate, as a metric."""
    share = error_rate(risk, wrong, weight)
    return share if isinstance(share, Missing) else 1.0 - share


def error_rate(
    risk: FloatArray, wrong: NDArray[np.bool_], weight: FloatArray | None = None
) -> float | Missing:
    """Share of wrong answers, as a metric; the score does not matter."""
    total = float(len(wrong)) if weight is None else float(weight.sum())
    if total == 0:
        return Missing("no_answers")
    return float(wrong.mean() if weight is None else (weight * wrong).sum() / total)
