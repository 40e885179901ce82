"""From a raw score to the probability that the answer is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from probes.errors import BundleError, TrainingError
from probes.types import FloatArray

Arrays: TypeAlias = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class PlattMap:
    """P(wrong) = sigmoid(slope * score + intercept)."""

    slope: float
    intercept: float

    def predict(self, score: FloatArray) -> NDArray[np.float64]:
        """Probability that the answer is wrong, same shape as the score."""
        return np.asarray(expit(self.slope * score + self.intercept), dtype=np.float64)

    def to_arrays(self) -> dict[str, FloatArray]:
        """Plain arrays, for a bundle."""
        return {"platt": np.array([self.slope, self.intercept], dtype=np.float64)}


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

    def to_arrays(self) -> dict[str, FloatArray]:
        """Plain arrays, for a bundle."""
        return {"isotonic": np.stack([self.scores, self.probabilities])}


CalibrationMap: TypeAlias = PlattMap | IsotonicMap


def calibration_map(arrays: Arrays) -> CalibrationMap:
    """The map that :meth:`to_arrays` wrote. Raises BundleError when there is none."""
    platt = arrays.get("platt")
    if platt is not None and platt.shape == (2,):
        return PlattMap(slope=float(platt[0]), intercept=float(platt[1]))
    isotonic = arrays.get("isotonic")
    if isotonic is not None and isotonic.ndim == 2 and len(isotonic) == 2:
        return IsotonicMap(scores=isotonic[0], probabilities=isotonic[1])
    raise BundleError("calibration", "no map in it; train the bundle again")


def fit_platt(score: FloatArray, wrong: NDArray[np.bool_]) -> PlattMap:
    """Fit a sigmoid with Platt's smoothed targets.

    Platt 1999, "Probabilistic outputs for support vector machines", section 2.2: targets
    (N+ + 1) / (N+ + 2) and 1 / (N- + 2) instead of 1 and 0, so that no probability becomes certain.

    Args:
        score: higher is riskier, shape (n,).
        wrong: shape (n,).

    Raises TrainingError unless both right and wrong answers are there.
    """
    score = _checked(score, wrong)
    positives = int(wrong.sum())
    negatives = len(wrong) - positives
    target = np.where(wrong, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, scale = score.mean(), max(float(score.std()), 1e-12)
    unit = (score - centre) / scale

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        logit = parameters[0] * unit + parameters[1]
        residual = expit(logit) - target
        value = float((np.logaddexp(0.0, logit) - target * logit).mean())
        return value, np.array([(residual * unit).mean(), residual.mean()])

    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    slope, intercept = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return PlattMap(slope=float(slope / scale), intercept=float(intercept - slope * centre / scale))


def fit_isotonic(score: FloatArray, wrong: NDArray[np.bool_]) -> IsotonicMap:
    """Fit a never-falling step map (Zadrozny and Elkan 2002); wants about 1,000 answers or more.

    Probabilities stay within 1 / (n + 2) of 0 and 1. Arguments and errors as :func:`fit_platt`.
    """
    from sklearn.isotonic import IsotonicRegression

    score = _checked(score, wrong)
    edge = 1 / (len(wrong) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(score, wrong)
    return IsotonicMap(
        scores=np.asarray(fitted.X_thresholds_, dtype=np.float64),
        probabilities=np.asarray(fitted.y_thresholds_, dtype=np.float64),
    )


def _checked(score: FloatArray, wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not 0 < int(wrong.sum()) < len(wrong):
        raise TrainingError("calibration: needs right and wrong answers; collect more examples")
    if not np.isfinite(score).all():
        raise TrainingError("calibration: a score is not finite; leave that answer out")
    return score.astype(np.float64)
