"""Confidence intervals by resampling whole images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.errors import DataError
from probes.types import FloatArray, Interval, Missing

BoolArray = NDArray[np.bool_]


class Metric(Protocol):
    """A metric as the bootstrap calls it."""

    def __call__(
        self, risk: FloatArray, wrong: BoolArray, weight: FloatArray | None = None, /
    ) -> float | Missing: ...


def cluster_bootstrap(
    metrics: Mapping[str, Metric],
    scores: Mapping[str, FloatArray],
    wrong: BoolArray,
    groups: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Interval | Missing]]:
    """Compute every metric of every score with its 95 % percentile interval.

    Images are drawn with replacement, and with an image all its answers (Field and Welsh 2007).

    Args:
        metrics: name to metric.
        scores: name to score, higher is riskier, finite, shape (n,).
        wrong: shape (n,).
        groups: image of each answer, shape (n,).
        resamples: how many.
        seed: the same seed and groups draw the same resamples, whatever the scores.

    Returns score name -> metric name -> interval, or ``Missing`` where the metric is not defined on
    these answers, or not on half of the resamples (``too_few_resamples``).
    Raises DataError when a score does not fit.
    """
    index = _group_index(groups, len(wrong))
    sorted_scores = []
    for name, score in scores.items():
        _check(name, score, wrong)
        order = np.argsort(score, kind="stable")
        sorted_scores.append((name, score[order].astype(np.float64), wrong[order], index[order]))
    draws: dict[tuple[str, str], list[float]] = {(s, m): [] for s in scores for m in metrics}
    for counts in _resample(index, resamples, seed):
        for name, score, label, group in sorted_scores:
            weight = counts[group]
            for metric_name, metric in metrics.items():
                value = metric(score, label, weight)
                if not isinstance(value, Missing):
                    draws[name, metric_name].append(value)
    return {
        name: {
            metric_name: _interval(metric(score, label), draws[name, metric_name], resamples)
            for metric_name, metric in metrics.items()
        }
        for name, score, label, _ in sorted_scores
    }


def paired_difference(
    metric: Metric,
    score: FloatArray,
    baseline: FloatArray,
    wrong: BoolArray,
    groups: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval | Missing:
    """Compute ``metric(score) - metric(baseline)`` with its interval, on the same resamples."""
    index = _group_index(groups, len(wrong))
    sides = []
    for name, values in (("score", score), ("baseline", baseline)):
        _check(name, values, wrong)
        order = np.argsort(values, kind="stable")
        sides.append((values[order].astype(np.float64), wrong[order], index[order]))
    draws: list[float] = []
    for counts in _resample(index, resamples, seed):
        value = _difference([metric(s, label, counts[group]) for s, label, group in sides])
        if not isinstance(value, Missing):
            draws.append(value)
    return _interval(_difference([metric(s, label) for s, label, _ in sides]), draws, resamples)


def _difference(values: Sequence[float | Missing]) -> float | Missing:
    first, second = values
    if isinstance(first, Missing):
        return first
    return second if isinstance(second, Missing) else first - second


def _resample(index: NDArray[np.intp], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image is drawn, shape (images,), once per resample."""
    rng = np.random.default_rng(seed)
    images = int(index.max()) + 1
    for _ in range(resamples):
        drawn = rng.integers(images, size=images)
        yield np.bincount(drawn, minlength=images).astype(np.float64)


def _interval(
    estimate: float | Missing, draws: Sequence[float], resamples: int
) -> Interval | Missing:
    if isinstance(estimate, Missing):
        return estimate
    if 2 * len(draws) < resamples:
        return Missing("too_few_resamples")
    lower, upper = np.quantile(draws, (0.025, 0.975))
    return Interval(float(estimate), float(lower), float(upper))


def _group_index(groups: ArrayLike, count: int) -> NDArray[np.intp]:
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    if index.shape != (count,) or count == 0:
        raise DataError(f"groups: shape {index.shape} for {count} answers; give one image each")
    return index


def _check(name: str, score: FloatArray, wrong: BoolArray) -> None:
    if score.shape != wrong.shape:
        raise DataError(f"{name}: shape {score.shape}, but there are {len(wrong)} answers")
    if not np.isfinite(score).all():
        raise DataError(f"{name}: not finite; compare on the answers that have every score")
