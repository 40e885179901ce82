"""Domain of validity: whether a request looks like what the gate was calibrated on.

The image side is one Mahalanobis distance over a few cheap features of the image itself; in bundles
of formats 1 and 2 over the hidden state's leading principal coordinates too. The question side is
:mod:`probes.signals.question`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probes.errors import TrainingError
from probes.signals.hidden import project
from probes.signals.image_features import IMAGE_FEATURES, image_features
from probes.signals.question import QuestionModel, measure_question
from probes.types import Domain, FloatArray, ImageDomain, Missing, Query, Trace

if TYPE_CHECKING:
    from probes.model.probe import LinearProbe

_FOLDS = 5
# A feature that hardly varies in calibration (every image of one size) must not turn the smallest
# change into an infinite distance: no feature's spread counts as less than this.
_LEAST_SPREAD = np.array([0.5 if name.startswith("log2") else 0.02 for name in IMAGE_FEATURES])


@dataclass(frozen=True, slots=True, eq=False)
class DomainModel:
    """A normal distribution over what the calibration requests looked like.

    Args:
        mean: of [latent coordinates, image features], shape (d,).
        precision: inverse covariance, shape (d, d).
        limit: the largest distance that counts as inside.
        latent: how many of the d are latent coordinates; 0 but in bundles of formats 1 and 2.
    """

    mean: FloatArray
    precision: FloatArray
    limit: float
    latent: int

    def distance(self, points: FloatArray) -> NDArray[np.float64]:
        """Mahalanobis distance of points (n, d), shape (n,), no unit."""
        centred = points - self.mean
        if len(centred) == 1:  # the same number, without planning the sum for longer than it takes
            squared = centred[0] @ self.precision @ centred.T
        else:
            squared = np.einsum("ni,ij,nj->n", centred, self.precision, centred, optimize=True)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)


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


def measure_domain(
    query: Query,
    trace: Trace,
    probe: LinearProbe,
    domain: DomainModel,
    questions: QuestionModel | Missing,
) -> Domain | Missing:
    """How far one request is from those of training; ``Missing`` as the probe's readout.

    Args:
        query: its image, with its features where they are known already, and its question.
        questions: the question side, or why the bundle has none.
    """
    projected = project(trace, probe)
    if isinstance(projected, Missing):
        return projected
    features = image_features(query.image) if query.features is None else query.features
    point = np.concatenate([projected[1 : 1 + domain.latent], features])
    distance = float(domain.distance(point[np.newaxis])[0])
    image = ImageDomain(distance=distance, inside=distance <= domain.limit)
    if isinstance(questions, Missing):
        return Domain((image,), questions)
    return Domain((image,), measure_question(query.question, questions))
