"""Domain of validity: whether a request looks like what the gate was calibrated on.

The image side is one Mahalanobis distance over a few cheap features of the image itself; in bundles
of formats 1 and 2 over the hidden state's leading principal coordinates too. The question side is
:mod:`probes.signals.question`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probes.signals.hidden import project
from probes.signals.image_features import image_features
from probes.signals.question import QuestionModel, measure_question
from probes.types import Domain, FloatArray, ImageDomain, Missing, Query, Trace

if TYPE_CHECKING:
    from probes.model.probe import LinearProbe


@dataclass(frozen=True, slots=True, eq=False)
class DomainModel:
    """A normal distribution over the features of the calibration requests.

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
        """Return the Mahalanobis distance of points (n, d), shape (n,), no unit."""
        centred = points - self.mean
        if len(centred) == 1:  # the same number, without planning the sum for longer than it takes
            squared = centred[0] @ self.precision @ centred.T
        else:
            squared = np.einsum("ni,ij,nj->n", centred, self.precision, centred, optimize=True)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)


def measure_domain(
    query: Query,
    trace: Trace,
    probe: LinearProbe,
    domain: DomainModel,
    questions: QuestionModel | Missing,
) -> Domain | Missing:
    """Measure how far a request is from those of training; ``Missing`` as the probe's readout.

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
