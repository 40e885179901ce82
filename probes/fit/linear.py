"""Fits the linear probe: standardise, then L2 logistic regression towards "wrong"."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from probes.errors import TrainingError
from probes.fit.logistic import Fitted, fit_path, gram
from probes.model.probe import LinearProbe
from probes.types import FloatArray, Position

REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths C of the L2 penalty that cross-validation chooses from, strongest first."""


FOLDS = 4


COMPONENTS = 8


SMALLEST_SCALE = 1e-6


_DENSE = 512
"""Widths up to which all eigenvectors are worked out at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """Hidden states with mean 0 and standard deviation 1 on the rows that they were made from.

    Args:
        table: (answers, hidden) float32.
        mean: (hidden,). scale: (hidden,), never 0.
    """

    table: NDArray[np.float32]
    mean: FloatArray
    scale: FloatArray

    @staticmethod
    def of(hidden: FloatArray) -> Standardised:
        """Standardise hidden states (answers, hidden)."""
        states = np.array(hidden, dtype=np.float32)
        mean = states.mean(axis=0, dtype=np.float64)
        scale = states.std(axis=0, dtype=np.float64)
        scale = np.where(scale < SMALLEST_SCALE, 1.0, scale)
        states -= mean.astype(np.float32)
        states /= scale.astype(np.float32)
        return Standardised(states, mean, scale)

    def apply(self, hidden: FloatArray) -> NDArray[np.float32]:
        """Standardise other hidden states with the same mean and scale."""
        states = np.array(hidden, dtype=np.float32)
        states -= self.mean.astype(np.float32)
        states /= self.scale.astype(np.float32)
        return states

    def probe(
        self, layer: int, position: Position, weights: FloatArray, intercept: float
    ) -> LinearProbe:
        """Make a probe, without components, of weights on these standardised states."""
        return LinearProbe(
            layer=layer,
            position=position,
            weights=_single(weights),
            intercept=float(intercept),
            mean=_single(self.mean),
            scale=_single(self.scale),
            components=np.empty((0, len(self.mean)), dtype=np.float32),
        )


def fit_linear_probe(
    hidden: FloatArray,
    wrong: NDArray[np.bool_],
    *,
    layer: int,
    position: Position,
    regularisation: float,
) -> LinearProbe:
    """Fit at a given C; without components.

    Args:
        hidden: (answers, hidden). wrong: (answers,).
    Raises:
        TrainingError: when every answer is right, or every one wrong.
    """
    check_classes(wrong)
    states = Standardised.of(hidden)
    (found,) = fit_path(states.table, wrong, np.ones((wrong.size, 1)), (regularisation,))
    return states.probe(layer, position, found.weights[:, 0], found.intercepts[0])


def cross_validate(
    hidden: FloatArray,
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    layer: int,
    position: Position,
) -> tuple[LinearProbe, float]:
    """Fit the probe at the C of best mean AUROC, cross-validated by image; return it and that C.

    Ties go to the stronger penalty. Folds that lack right or wrong answers do not count.

    Args:
        hidden: (answers, hidden). wrong: (answers,). groups: image hashes, (answers,).
    Raises:
        TrainingError: when every answer is right or every one wrong, or there is one image only.
    """
    check_classes(wrong)
    states = Standardised.of(hidden)
    held = held_out(wrong, groups)
    weightings = np.ones((wrong.size, len(held) + 1))
    for fold, rows in enumerate(held):
        weightings[rows, fold] = 0
    best: tuple[float, Fitted] | None = None
    for found in fit_path(states.table, wrong, weightings, REGULARISATION):
        logits = states.table @ found.weights
        quality = np.mean(
            [roc_auc_score(wrong[rows], logits[rows, fold]) for fold, rows in enumerate(held)]
            or [0.0]
        )
        if best is None or quality > best[0]:
            best = float(quality), found
    assert best is not None  # there are several C
    chosen = best[1]
    probe = states.probe(layer, position, chosen.weights[:, -1], chosen.intercepts[-1])
    return probe, chosen.strength


def held_out(wrong: NDArray[np.bool_], groups: NDArray[np.str_]) -> list[NDArray[np.bool_]]:
    """Return the rows held out per fold, by image; a fold that lacks a class is left out."""
    count = min(FOLDS, int(np.unique(groups).size))
    if count < 2:
        raise TrainingError("cross-validation needs at least two images in the fit split")
    folds = []
    for train, held in GroupKFold(count).split(wrong, groups=groups):
        if np.unique(wrong[train]).size == 2 and np.unique(wrong[held]).size == 2:
            rows = np.zeros(wrong.size, dtype=bool)
            rows[held] = True
            folds.append(rows)
    return folds


def with_components(probe: LinearProbe, hidden: FloatArray) -> LinearProbe:
    """Add the leading principal directions of the states that the probe was fitted on."""
    standard = np.array(hidden, dtype=np.float32)
    standard -= probe.mean
    standard /= probe.scale
    return replace(probe, components=_single(_principal(standard)))


def check_classes(wrong: NDArray[np.bool_]) -> None:
    """Raise TrainingError unless there are right and wrong answers."""
    if wrong.all() or not wrong.any():
        raise TrainingError(
            f"a probe needs right and wrong answers to fit on, but the fit split's {wrong.size} "
            f"answers are all {'wrong' if wrong.all() else 'right'}; check the labels"
        )


def _principal(standard: FloatArray) -> FloatArray:
    """Leading eigenvectors of the covariance, signed so that the largest entry is positive."""
    rows, width = standard.shape
    count = min(COMPONENTS, width, max(1, rows - 1))
    covariance = gram(standard).astype(np.float64) / rows
    if width <= _DENSE:
        _, vectors = eigh(covariance, subset_by_index=(width - count, width - 1))
        directions = vectors.T[::-1]
    else:
        start = np.random.default_rng(0).normal(size=width)
        values, vectors = eigsh(covariance, k=count, which="LA", v0=start)
        directions = vectors.T[np.argsort(-values)]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return np.asarray(directions * np.sign(largest), dtype=np.float64)


def _single(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
