"""Paired comparisons of right and wrong on the same answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from probes.stats.bootstrap import cluster_bootstrap
from probes.types import FloatArray, Interval, Missing

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lost:
    """Accuracy lost from one way of answering to another, on the same questions.

    Args:
        answers: how many.
        before, after: accuracy.
        drop: before minus after, bootstrapped by image; negative where accuracy was gained.
        broken, mended: right before and wrong after, and the other way round.
        p_value: exact McNemar test, two-sided: as if questions about one image were independent.
    """

    answers: int
    before: float
    after: float
    drop: Interval | Missing
    broken: int
    mended: int
    p_value: float


def compare(before: BoolArray, after: BoolArray, groups: ArrayLike, resamples: int) -> Lost:
    """Compare two ways of answering; ``before`` and ``after`` mark wrong answers, (n,) each.

    McNemar 1947, the exact form: of the answers that changed, half would be broken by chance.
    """
    broken, mended = int((after & ~before).sum()), int((before & ~after).sum())
    changed = broken + mended
    return Lost(
        answers=len(before),
        before=float(1 - before.mean()),
        after=float(1 - after.mean()),
        drop=mean_interval(after.astype(float) - before, groups, resamples),
        broken=broken,
        mended=mended,
        p_value=float(binomtest(broken, changed).pvalue) if changed else 1.0,
    )


def mean_interval(values: FloatArray, groups: ArrayLike, resamples: int) -> Interval | Missing:
    """Compute the mean of values, (n,), with its interval, bootstrapped by image."""
    nothing = np.zeros(len(values), dtype=bool)
    found = cluster_bootstrap({"mean": _mean}, {"": values}, nothing, groups, resamples)
    return found[""]["mean"]


def _mean(values: FloatArray, _: BoolArray, weight: FloatArray | None = None) -> float | Missing:
    return float(values.mean() if weight is None else weight @ values / weight.sum())
