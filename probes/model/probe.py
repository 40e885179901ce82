"""The linear probe on a hidden state: standardise, then L2 logistic regression towards "wrong".

A linear readout commutes with the mean over tokens, so the engine is handed one matrix and returns
a handful of numbers per answer: the probe's column and the leading principal components that the
domain of validity is measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from probes.types import FloatArray, Position


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Log-odds that the answer is wrong, from one hidden state.

    Args:
        layer: hidden-state index.
        position: token position.
        weights: on the standardised hidden state, shape (hidden,).
        intercept: log-odds.
        mean: of the hidden state on the fit split, shape (hidden,).
        scale: its standard deviation, never 0, shape (hidden,).
        components: leading principal directions of the standardised state, (components, hidden).
    """

    layer: int
    position: Position
    weights: FloatArray
    intercept: float
    mean: FloatArray
    scale: FloatArray
    components: FloatArray

    @cached_property
    def projection(self) -> FloatArray:
        """The matrix that an engine multiplies the hidden state with: (hidden, 1 + components).

        Column 0 is the probe, the others the principal components; standardisation is folded in up
        to :attr:`offset`.
        """
        columns = np.vstack([self.weights[None, :], self.components]) / self.scale[None, :]
        return np.asarray(columns.T, dtype=np.float64)

    @cached_property
    def offset(self) -> FloatArray:
        """Added to a projected state, shape (1 + components,)."""
        offset = -(np.asarray(self.mean, dtype=np.float64) @ self.projection)
        offset[0] += self.intercept
        return offset

    def project(self, hidden: FloatArray) -> FloatArray:
        """Project hidden states as an engine does: (..., hidden) -> (..., 1 + components)."""
        return np.asarray(hidden, dtype=np.float64) @ self.projection

    def logit(self, projected: FloatArray) -> FloatArray:
        """The probe's log-odds of projected states: (..., 1 + components) -> (...)."""
        return np.asarray(projected[..., 0] + self.offset[0], dtype=np.float64)

    def latent(self, projected: FloatArray) -> FloatArray:
        """Principal components of projected states: (..., 1 + components) -> (..., components)."""
        return np.asarray(projected[..., 1:] + self.offset[1:], dtype=np.float64)
