"""Fits the risk: which signals are fused, with which weights.

Candidates are compared on the selection split, out of fold: token confidence alone, the probe
alone, both, and both with weights of their own per kind of question. The simplest one within noise
of the best is kept, so the risk is never worse than token confidence beyond noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from probes.errors import TrainingError
from probes.fit.calibration_choice import CalibrationCandidate, choose_calibration
from probes.model.risk import KIND, RiskModel, split_feature
from probes.signals.catalogue import TOKEN_FEATURES
from probes.stats.bootstrap import paired_difference
from probes.stats.metrics import auroc
from probes.types import FloatArray, Interval, Missing

CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "token_confidence": TOKEN_FEATURES,
    "probe": ("probe_logit",),
    "probe_and_token_confidence": ("probe_logit", *TOKEN_FEATURES),
}
"""What may be fused, simplest first."""


BY_KIND = "probe_and_token_confidence_by_kind"
"""The candidate after these, where the dataset names kinds that its questions' words tell."""


FOLDS = 5


STRENGTH = 0.1
"""C of the L2 penalty on the weights of standardised features. It also draws a kind's weights to
those of all kinds, which only its own answers move them from."""


def by_kind(features: tuple[str, ...], kinds: Sequence[str]) -> tuple[str, ...]:
    """Add features that adjust the weights and the intercept for each kind of question."""
    return (*features, *(f"{name}@{kind}" for kind in kinds for name in (KIND, *features)))


@dataclass(frozen=True, slots=True)
class FusionCandidate:
    """One candidate: out-of-fold AUROC on the selection split, and how far the best is ahead."""

    name: str
    features: tuple[str, ...]
    auroc: float
    best_ahead_by: Interval
    chosen: bool


def fit_risk_model(
    columns: Mapping[str, FloatArray],
    features: tuple[str, ...],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    seed: int = 0,
) -> tuple[RiskModel, tuple[CalibrationCandidate, ...]]:
    """Fit weights on all answers given, and the calibration map on out-of-fold log-odds.

    Args:
        columns: per feature (answers,). wrong: (answers,). groups: image hashes, (answers,).

    Returns the model and the calibration maps that were compared.
    """
    weights, intercept = _fit_logistic(columns, features, wrong)
    out_of_fold = _out_of_fold(columns, features, wrong, groups)
    calibration, table = choose_calibration(out_of_fold, wrong, groups, seed=seed)
    return RiskModel(features, weights, intercept, calibration), table


def choose_fusion(
    columns: Mapping[str, FloatArray],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    kinds: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[tuple[str, ...], tuple[FusionCandidate, ...]]:
    """Choose the features of the simplest candidate that is not behind the best beyond noise.

    Args:
        kinds: of question that may have weights of their own; none leaves that candidate out.

    "Beyond noise": the 95 % interval of the paired difference of AUROC, bootstrapped by image, lies
    above zero.
    """
    candidates = dict(CANDIDATES)
    if kinds:
        candidates[BY_KIND] = by_kind(CANDIDATES["probe_and_token_confidence"], kinds)
    scores = {
        name: _out_of_fold(columns, features, wrong, groups)
        for name, features in candidates.items()
    }
    values = {name: _auroc(score, wrong) for name, score in scores.items()}
    best = max(values, key=lambda name: values[name])

    def ahead_of(name: str) -> Interval:
        difference = paired_difference(
            auroc, scores[best], scores[name], wrong, groups, resamples=resamples, seed=seed
        )
        if isinstance(difference, Missing):
            raise TrainingError(f"fusion: {difference.reason} in the selection split; collect more")
        return difference

    ahead = {name: ahead_of(name) for name in candidates}
    chosen = next(name for name in candidates if ahead[name].lower <= 0.0)
    table = tuple(
        FusionCandidate(name, features, values[name], ahead[name], name == chosen)
        for name, features in candidates.items()
    )
    return candidates[chosen], table


def out_of_fold_auroc(
    columns: Mapping[str, FloatArray],
    features: tuple[str, ...],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
) -> float:
    """Return the out-of-fold AUROC of a logistic model on these features alone."""
    return _auroc(_out_of_fold(columns, features, wrong, groups), wrong)


def _auroc(score: FloatArray, wrong: NDArray[np.bool_]) -> float:
    value = auroc(score, wrong)
    if isinstance(value, Missing):
        raise TrainingError(f"fusion: {value.reason} in the selection split; collect more")
    return value


def _out_of_fold(
    columns: Mapping[str, FloatArray],
    features: tuple[str, ...],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
) -> FloatArray:
    folds = min(FOLDS, int(np.unique(groups).size))
    if folds < 2:
        raise TrainingError("fusion needs at least two images in the selection split")
    scores = np.zeros(wrong.size)
    for train, held in GroupKFold(folds).split(wrong, groups=groups):
        part = {name: columns[name][train] for name in features}
        weights, intercept = _fit_logistic(part, features, wrong[train])
        table = np.column_stack([columns[name][held] for name in features])
        scores[held] = table @ weights + intercept
    return scores


def _fit_logistic(
    columns: Mapping[str, FloatArray], features: tuple[str, ...], wrong: NDArray[np.bool_]
) -> tuple[FloatArray, float]:
    if np.unique(wrong).size < 2:
        raise TrainingError("fusion needs right and wrong answers in the selection split")
    plain = [name for name in features if split_feature(name)[1] is None]
    mean = {name: float(columns[name].mean()) for name in plain} | {KIND: 0.0}
    scale = {name: float(columns[name].std()) for name in plain} | {KIND: 1.0}
    scale = {name: 1.0 if value < 1e-12 else value for name, value in scale.items()}
    model = LogisticRegression(C=STRENGTH, max_iter=1000, tol=1e-8)
    model.fit(np.column_stack([_standard(columns, name, mean, scale) for name in features]), wrong)
    weights, intercept = dict.fromkeys(features, 0.0), float(model.intercept_[0])
    for name, found in zip(features, model.coef_[0], strict=True):
        feature, kind = split_feature(name)
        weight = float(found) / scale[feature]
        weights[name] += weight
        if kind is None:
            intercept -= weight * mean[feature]
        else:
            weights[f"{KIND}@{kind}"] -= weight * mean[feature]
    return np.array([weights[name] for name in features], dtype=np.float64), intercept


def _standard(
    columns: Mapping[str, FloatArray],
    name: str,
    mean: Mapping[str, float],
    scale: Mapping[str, float],
) -> FloatArray:
    """Standardise a feature for the penalty: mean 0 and scale 1 over all answers.

    A feature of one kind alone takes the feature's mean and scale over all kinds, so that the
    penalty on a rare kind is not as weak as that on a common one.
    """
    feature, kind = split_feature(name)
    if kind is None:
        return np.asarray((columns[name] - mean[name]) / scale[name], dtype=np.float64)
    of_kind = columns[name] - mean[feature] * columns[f"{KIND}@{kind}"]
    return np.asarray(of_kind / scale[feature], dtype=np.float64)
