"""Fits the maps from a raw score to the probability that the answer is wrong."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from probes.errors import TrainingError
from probes.model.calibration import IsotonicMap, PlattMap, VennAbersMap
from probes.types import FloatArray


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


def fit_venn_abers(score: FloatArray, wrong: NDArray[np.bool_]) -> VennAbersMap:
    """Fit the inductive Venn-Abers predictor.

    Vovk, Petej and Fedorova 2015 (arXiv 1511.00213), section 2: p0 and p1 at a score are the values
    there of two isotonic regressions, of the answers given and one more at that score, once right
    and once wrong. Both are worked out beforehand for every place among the scores. Arguments and
    errors as :func:`fit_platt`.
    """
    score = _checked(score, wrong)
    knots, inverse = np.unique(score, return_inverse=True)
    pools = _Pools(
        np.bincount(inverse).tolist(), np.bincount(inverse[wrong], minlength=len(knots)).tolist()
    )
    places = range(2 * len(knots) + 1)
    return VennAbersMap(
        scores=knots,
        lower=np.array([pools.mean_with(place, 0) for place in places]),
        upper=np.array([pools.mean_with(place, 1) for place in places]),
    )


class _Pools:
    """Isotonic regression by knot that gives its value after one more answer.

    Pooling adjacent violators ends the same in any order: so every prefix and every suffix of the
    knots is pooled once, and a further answer pools with its neighbours until nothing violates.
    Whole numbers, so no rounding.
    """

    def __init__(self, answers: list[int], wrong: list[int]) -> None:
        self._knots = len(answers)
        self._answers = [0, *accumulate(answers)]
        self._wrong = [0, *accumulate(wrong)]
        self._starts = [0] * (self._knots + 1)
        """Where the last pool of the first so many knots starts."""
        for stop in range(1, self._knots + 1):
            start = stop - 1
            while start > 0 and self._falls(self._starts[start], start, stop):
                start = self._starts[start]
            self._starts[stop] = start
        self._stops = [self._knots] * (self._knots + 1)
        """Where the first pool of the knots from here on stops."""
        for start in range(self._knots - 1, -1, -1):
            stop = start + 1
            while stop < self._knots and self._falls(start, stop, self._stops[stop]):
                stop = self._stops[stop]
            self._stops[start] = stop

    def mean_with(self, place: int, wrong: int) -> float:
        """Return the value at one more answer: place 2 i is before knot i, 2 i + 1 at it."""
        left, right = place // 2, (place + 1) // 2
        while True:
            answers = self._answers[right] - self._answers[left] + 1
            errors = self._wrong[right] - self._wrong[left] + wrong
            start, stop = self._starts[left], self._stops[right]
            below, below_wrong = self._sums(start, left)
            above, above_wrong = self._sums(right, stop)
            if left > 0 and below_wrong * answers >= errors * below:
                left = start
            elif right < self._knots and errors * above >= above_wrong * answers:
                right = stop
            else:
                return errors / answers

    def _falls(self, start: int, middle: int, stop: int) -> bool:
        """Whether the share of wrong answers does not rise from one run of knots to the next."""
        (first, first_wrong), (second, second_wrong) = (
            self._sums(start, middle), self._sums(middle, stop)
        )  # fmt: skip
        return first_wrong * second >= second_wrong * first

    def _sums(self, start: int, stop: int) -> tuple[int, int]:
        return self._answers[stop] - self._answers[start], self._wrong[stop] - self._wrong[start]


def _checked(score: FloatArray, wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not 0 < int(wrong.sum()) < len(wrong):
        raise TrainingError("calibration: needs right and wrong answers; collect more examples")
    if not np.isfinite(score).all():
        raise TrainingError("calibration: a score is not finite; leave that answer out")
    return score.astype(np.float64)
