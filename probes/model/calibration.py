"""Calibration maps: from a raw score to the probability that the answer is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from probes.types import FloatArray


@dataclass(frozen=True, slots=True)
class PlattMap:
    """P(wrong) = sigmoid(slope * score + intercept)."""

    slope: float
    intercept: float

    def predict(self, score: FloatArray) -> NDArray[np.float64]:
        """Probability that the answer is wrong, same shape as the score."""
        return np.asarray(expit(self.slope * score + self.intercept), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class IsotonicMap:
    """P(wrong) is linear between knots and constant beyond the last ones.

    Args:
        scores: knots, increasing, shape (knots,).
        probabilities: at the knots, never falling, shape (knots,).
    """

    scores: FloatArray
    probabilities: FloatArray

    def predict(self, score: FloatArray) -> NDArray[np.float64]:
        """Probability that the answer is wrong, same shape as the score."""
        return np.asarray(np.interp(score, self.scores, self.probabilities), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class VennAbersMap:
    """Two probabilities per score: were the answer right (p0), and were it wrong (p1).

    One of the two is calibrated, whatever the scores; their distance shows how much the
    calibration answers know about such a score.

    Args:
        scores: of the calibration answers, increasing, shape (knots,).
        lower: p0 below the first knot, at it, between it and the second, ..., (2 knots + 1,).
        upper: p1, likewise.
    """

    scores: FloatArray
    lower: FloatArray
    upper: FloatArray

    def interval(self, score: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """p0 and p1, p0 <= p1, each of the score's shape."""
        place = np.searchsorted(self.scores, score, side="left")
        place = place + np.searchsorted(self.scores, score, side="right")
        return np.asarray(self.lower[place]), np.asarray(self.upper[place])

    def predict(self, score: FloatArray) -> NDArray[np.float64]:
        """The one probability p1 / (1 - p0 + p1) of least regret under log loss, same shape."""
        lower, upper = self.interval(score)
        return np.asarray(upper / (1 - lower + upper), dtype=np.float64)


CalibrationMap: TypeAlias = PlattMap | IsotonicMap | VennAbersMap
