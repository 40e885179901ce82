"""Fits the image side of the domain of validity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from probes.errors import TrainingError
from probes.signals.domain import DomainModel
from probes.signals.image_features import IMAGE_FEATURES
from probes.types import FloatArray

if TYPE_CHECKING:
    pass


_FOLDS = 5


# A feature that hardly varies in calibration (every image of one size) must not turn the smallest
# change into an infinite distance: no feature's spread counts as less than this.
_LEAST_SPREAD = np.array([0.5 if name.startswith("log2") else 0.02 for name in IMAGE_FEATURES])


def fit_domain(image: FloatArray, quantile: float) -> DomainModel:
    """Fit mean, shrunk covariance (Ledoit and Wolf 2004) and limit.

    The limit is the quantile of distances to models fitted without the request's image (five
    folds): requests lie closer to a model that has seen them.

    Args:
        image: image features of the requests, shape (n, d); equal rows are one image.
        quantile: share of new requests that is to be inside, such as 0.97.

    Raises TrainingError with fewer than ten requests per dimension.
    """
    points = image.astype(np.float64)
    count, dimensions = points.shape
    if count < 10 * dimensions:
        raise TrainingError(
            f"domain: {count} requests for {dimensions} dimensions; "
            f"collect at least {10 * dimensions}"
        )
    fold = np.unique(image, axis=0, return_inverse=True)[1] % _FOLDS
    distances = np.empty(count)
    for held_out in range(_FOLDS):
        inside = fold != held_out
        partial = DomainModel(*_normal(points[inside]), math.inf, 0)
        distances[~inside] = partial.distance(points[~inside])
    limit = float(np.quantile(distances, quantile))
    return DomainModel(*_normal(points), limit, 0)


def _normal(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and precision of points (n, d), no spread below :data:`_LEAST_SPREAD`."""
    from sklearn.covariance import LedoitWolf

    mean = points.mean(axis=0)
    spread = np.maximum(points.std(axis=0), _LEAST_SPREAD)
    fitted = LedoitWolf(assume_centered=True).fit((points - mean) / spread)
    # A feature below its floor has less than unit variance: give it what it lacks.
    missing = np.maximum(1.0 - np.diag(fitted.covariance_), 0.0)
    return mean, np.linalg.inv(fitted.covariance_ + np.diag(missing)) / np.outer(spread, spread)
