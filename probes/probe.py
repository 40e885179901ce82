"""The linear probe on a hidden state: standardise, then L2 logistic regression towards "wrong".

A linear readout commutes with the mean over tokens, so the engine is handed one matrix and returns
a handful of numbers per answer: the probe's column and the leading principal components that the
domain of validity is measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from probes.errors import TrainingError
from probes.types import FloatArray, Position

REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths C of the L2 penalty that cross-validation chooses from, strongest first."""

FOLDS = 4
COMPONENTS = 16
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Log-odds that the answer is wrong, from one hidden state.

    Args:
        layer: hidden-state index.
        position: token position.
        weights: on the standardised hidden state, shape (hidden,).
        intercept: log-odds.
        mean: of the hidden state on the fit split, shape (hidden,).
        scale: its standard deviation, never 0, shape (hidden,).
        components: leading principal directions of the standardised state, (components, hidden).
    """

    layer: int
    position: Position
    weights: FloatArray
    intercept: float
    mean: FloatArray
    scale: FloatArray
    components: FloatArray

    @cached_property
    def projection(self) -> FloatArray:
        """What an engine multiplies the hidden state with: (hidden, 1 + components), float64.

        Column 0 is the probe, the others the principal components; standardisation is folded in up
        to :attr:`offset`.
        """
        columns = np.vstack([self.weights[None, :], self.components]) / self.scale[None, :]
        return np.asarray(columns.T, dtype=np.float64)

    @cached_property
    def offset(self) -> FloatArray:
        """Added to a projected state, shape (1 + components,)."""
        offset = -(np.asarray(self.mean, dtype=np.float64) @ self.projection)
        offset[0] += self.intercept
        return offset

    def project(self, hidden: FloatArray) -> FloatArray:
        """What an engine returns for hidden states: (..., hidden) -> (..., 1 + components)."""
        return np.asarray(hidden, dtype=np.float64) @ self.projection

    def logit(self, projected: FloatArray) -> FloatArray:
        """The probe's log-odds of projected states: (..., 1 + components) -> (...)."""
        return np.asarray(projected[..., 0] + self.offset[0], dtype=np.float64)

    def latent(self, projected: FloatArray) -> FloatArray:
        """Principal components of projected states: (..., 1 + components) -> (..., components)."""
        return np.asarray(projected[..., 1:] + self.offset[1:], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ProbeCandidate:
    """One layer and position that was tried: its C, and its AUROC on the selection split."""

    layer: int
    position: Position
    regularisation: float
    auroc: float


def fit_linear_probe(
    hidden: FloatArray,
    wrong: NDArray[np.bool_],
    *,
    layer: int,
    position: Position,
    regularisation: float,
) -> LinearProbe:
    """Fit at a given C.

    Args:
        hidden: (answers, hidden). wrong: (answers,).
    Raises:
        TrainingError: when every answer is right, or every one wrong.
    """
    if wrong.all() or not wrong.any():
        raise TrainingError(
            f"a probe needs right and wrong answers to fit on, but the fit split's {wrong.size} "
            f"answers are all {'wrong' if wrong.all() else 'right'}; check the labels"
        )
    states = np.asarray(hidden, dtype=np.float64)
    mean = states.mean(axis=0)
    scale = states.std(axis=0)
    scale = np.where(scale < SMALLEST_SCALE, 1.0, scale)
    standard = (states - mean) / scale
    model = _logistic(regularisation).fit(standard, wrong)
    return LinearProbe(
        layer=layer,
        position=position,
        weights=_single(model.coef_[0]),
        intercept=float(model.intercept_[0]),
        mean=_single(mean),
        scale=_single(scale),
        components=_single(_principal(standard)),
    )


def choose_regularisation(
    hidden: FloatArray, wrong: NDArray[np.bool_], groups: NDArray[np.str_]
) -> float:
    """The C of best mean AUROC, cross-validated by image; ties go to the stronger penalty."""
    folds = min(FOLDS, int(np.unique(groups).size))
    if folds < 2:
        raise TrainingError("cross-validation needs at least two images in the fit split")
    states = np.asarray(hidden, dtype=np.float64)
    scale = states.std(axis=0)
    standard = (states - states.mean(axis=0)) / np.where(scale < SMALLEST_SCALE, 1.0, scale)
    totals = np.zeros(len(REGULARISATION))
    for train, held in GroupKFold(folds).split(standard, wrong, groups):
        if np.unique(wrong[train]).size < 2 or np.unique(wrong[held]).size < 2:
            continue
        for index, strength in enumerate(REGULARISATION):
            model = _logistic(strength).fit(standard[train], wrong[train])
            totals[index] += roc_auc_score(wrong[held], model.decision_function(standard[held]))
    return REGULARISATION[int(np.argmax(totals))]


def fit_probe(
    states: Mapping[tuple[int, Position], FloatArray],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    fit: NDArray[np.bool_],
    select: NDArray[np.bool_],
) -> tuple[LinearProbe, tuple[ProbeCandidate, ...]]:
    """Fit one probe per layer and position, keep the best on the selection split.

    Args:
        states: per (layer, position) the hidden states, (answers, hidden).
        wrong: (answers,). groups: image hashes, (answers,).
        fit: which answers the weights and C come from (C by cross-validation grouped by image).
        select: which answers layer and position are chosen on.

    Returns:
        The probe and every candidate, best first.
    """
    if np.unique(wrong[select]).size < 2:
        raise TrainingError(
            "the selection split needs right and wrong answers to choose a layer on"
        )
    fitted: list[tuple[ProbeCandidate, LinearProbe]] = []
    for (layer, position), hidden in states.items():
        strength = choose_regularisation(hidden[fit], wrong[fit], groups[fit])
        probe = fit_linear_probe(
            hidden[fit], wrong[fit], layer=layer, position=position, regularisation=strength
        )
        auroc = float(roc_auc_score(wrong[select], probe.logit(probe.project(hidden[select]))))
        fitted.append((ProbeCandidate(layer, position, strength, auroc), probe))
    if not fitted:
        raise TrainingError("the store holds no layer and position that was read for every answer")
    fitted.sort(key=lambda pair: -pair[0].auroc)
    return fitted[0][1], tuple(candidate for candidate, _ in fitted)


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000, tol=1e-6)


def _principal(standard: FloatArray) -> FloatArray:
    """Leading eigenvectors of the covariance, signed so that the largest entry is positive."""
    count = min(COMPONENTS, standard.shape[1], max(1, standard.shape[0] - 1))
    width = standard.shape[1]
    covariance = standard.T @ standard / standard.shape[0]
    _, vectors = eigh(covariance, subset_by_index=(width - count, width - 1))
    directions = vectors.T[::-1]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return np.asarray(directions * np.sign(largest), dtype=np.float64)


def _single(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
