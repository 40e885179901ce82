"""A share with its interval, also for zero of few, where answers share images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from probes.types import Interval, Missing

_Z = float(norm.ppf(0.975))


def wilson_share(hits: NDArray[np.bool_], groups: ArrayLike) -> Interval | Missing:
    """Compute the share of hits with its 95 % interval (Wilson 1927), shape (n,) each.

    Answers of a group (an image) count as if they were all alike, which no correlation exceeds: the
    interval is that of Kish's number of equal groups, (sum m)^2 / sum m^2 for m answers a group.
    The bootstrap has no interval for a share of 0 or 1; this one does. ``Missing("no_answers")``
    for none.
    """
    if hits.size == 0:
        return Missing("no_answers")
    sizes = np.unique(np.asarray(groups), return_counts=True)[1].astype(np.float64)
    count, share = float(sizes.sum() ** 2 / (sizes**2).sum()), float(hits.mean())
    shrink = _Z**2 / count
    middle = (share + shrink / 2) / (1 + shrink)
    half = _Z / (1 + shrink) * float(np.sqrt(share * (1 - share) / count + shrink / (4 * count)))
    # Rounding must put neither the share outside nor a bound beyond 0 or 1.
    lower, upper = min(share, middle - half), max(share, middle + half)
    return Interval(share, max(0.0, lower), min(1.0, upper))
