"""Chooses the calibration map by cross-validation, and keeps the table of all three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from probes.errors import TrainingError
from probes.fit.calibrate import fit_isotonic, fit_platt, fit_venn_abers
from probes.model.calibration import CalibrationMap
from probes.stats.bootstrap import paired_difference
from probes.stats.metrics import brier
from probes.types import FloatArray, Interval, Missing

MAPS: Mapping[str, Callable[[FloatArray, NDArray[np.bool_]], CalibrationMap]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "venn_abers": fit_venn_abers,
}
"""Simplest first."""

FOLDS = 5


@dataclass(frozen=True, slots=True)
class CalibrationCandidate:
    """One map out of fold: its Brier score and log loss (nats), and how far the best is ahead.

    Args:
        behind_best_by: its Brier score minus the best one's, paired by image.
    """

    name: str
    brier: float
    log_loss: float
    behind_best_by: Interval
    chosen: bool


def choose_calibration(
    score: FloatArray,
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[CalibrationMap, tuple[CalibrationCandidate, ...]]:
    """Fit the simplest map whose Brier score is not worse than the best one's beyond noise.

    Args:
        score: out-of-fold log-odds, (answers,). wrong: (answers,). groups: images, (answers,).
    """
    risks = {name: _out_of_fold(fit, score, wrong, groups) for name, fit in MAPS.items()}
    values = {name: float(((risk - wrong) ** 2).mean()) for name, risk in risks.items()}
    best = min(values, key=lambda name: values[name])

    def behind(name: str) -> Interval:
        found = paired_difference(
            brier, risks[name], risks[best], wrong, groups, resamples=resamples, seed=seed
        )
        if isinstance(found, Missing):
            raise TrainingError(f"calibration: {found.reason} in the selection split; collect more")
        return found

    distances = {name: behind(name) for name in MAPS}
    chosen = next(name for name in MAPS if distances[name].lower <= 0)
    table = tuple(
        CalibrationCandidate(
            name, values[name], _log_loss(risks[name], wrong), distances[name], name == chosen
        )
        for name in MAPS
    )
    return MAPS[chosen](score, wrong), table


def _out_of_fold(
    fit: Callable[[FloatArray, NDArray[np.bool_]], CalibrationMap],
    score: FloatArray,
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
) -> FloatArray:
    risk = np.empty(wrong.size)
    folds = min(FOLDS, int(np.unique(groups).size))
    for train, held in GroupKFold(folds).split(wrong, groups=groups):
        risk[held] = fit(score[train], wrong[train]).predict(score[held])
    return risk


def _log_loss(risk: FloatArray, wrong: NDArray[np.bool_]) -> float:
    chance = np.clip(np.where(wrong, risk, 1 - risk), 1e-12, 1.0)
    return float(-np.log(chance).mean())
