"""Attention concentration: measured because people believe in it, never decided on.

One mask serves all: the 30 % most attended image tokens (rounded up, ties in raster order). Its
share of the image's attention is ``top30_mass``, its connected components are ``clusters``. This is
our reading of "C_k, the number of connected components of the top-30 %-mass mask" (2606.17389).
The earlier C_k (arXiv 2605.08200) clusters the tokens above the 90th percentile by DBSCAN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from probes.types import AttentionConcentration, FloatArray, Missing, Trace

ATTENTION_METRICS: tuple[str, ...] = (
    "spatial_entropy",
    "top30_mass",
    "image_mass",
    "clusters",
    "clusters_dbscan",
)
TOP_SHARE = 0.3
_EIGHT = np.ones((3, 3), dtype=np.int64)


def concentration(row: FloatArray, grid: tuple[int, int]) -> AttentionConcentration | Missing:
    """Sharpness of one attention row over the image tokens.

    Args:
        row: attention to each image token, shape (image_tokens,), part of a softmax over all keys.
        grid: rows and columns of the image tokens, in raster order.

    Returns ``Missing`` with ``grid_mismatch``, ``not_finite`` or ``no_image_attention``.
    """
    if row.shape != (grid[0] * grid[1],):
        return Missing("grid_mismatch")
    weights = row.astype(np.float64)
    mass = float(weights.sum())
    if not math.isfinite(mass):
        return Missing("not_finite")
    if mass <= 0:
        return Missing("no_image_attention")
    shares = weights / mass
    top = top_mask(shares)
    positive = shares[shares > 0]
    _, clusters = ndimage.label(top.reshape(grid))
    return AttentionConcentration(
        spatial_entropy=max(0.0, -float(positive @ np.log(positive))),
        top30_mass=float(shares[top].sum()),
        image_mass=mass,
        clusters=int(clusters),
    )


def top_mask(row: FloatArray) -> NDArray[np.bool_]:
    """The 30 % most attended tokens, shape (image_tokens,); the first in raster order win ties."""
    count = math.ceil(TOP_SHARE * row.size)
    mask = np.zeros(row.size, dtype=bool)
    mask[np.argsort(-row, kind="stable")[:count]] = True
    return mask


def dbscan_clusters(row: FloatArray, grid: tuple[int, int]) -> int:
    """The earlier C_k: DBSCAN (eps 1.5, 3 points) on the tokens from the 90th percentile up.

    On a grid eps 1.5 reaches the eight neighbours, so its clusters are the 8-connected components
    of the tokens with two or more neighbours in the mask: the same number in far less time.
    """
    mask = (row >= np.quantile(row, 0.9)).reshape(grid)
    touching = ndimage.convolve(mask.astype(np.int64), _EIGHT, mode="constant")
    return int(ndimage.label(mask & (touching >= 3), structure=_EIGHT)[1])


def measure_attention(trace: Trace) -> AttentionConcentration | Missing:
    """Concentration of the attention from the answer tokens, averaged over the layers read."""
    maps = trace.attention
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    return concentration(maps.answer_mean.mean(axis=0), maps.grid)


def attention_table(trace: Trace) -> NDArray[np.float32] | Missing:
    """Every metric of every layer, as collection stores it.

    Returns shape (2, layers, 5): positions ``prompt_last`` and ``answer_mean``, the layers read,
    then :data:`ATTENTION_METRICS`; ``Missing`` as soon as one row cannot be measured.
    """
    maps = trace.attention
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    table = np.empty((2, len(maps.layers), len(ATTENTION_METRICS)), dtype=np.float32)
    for position, rows in enumerate((maps.prompt_last, maps.answer_mean)):
        for layer, row in enumerate(rows):
            found = concentration(row, maps.grid)
            if isinstance(found, Missing):
                return found
            table[position, layer] = (
                found.spatial_entropy,
                found.top30_mass,
                found.image_mass,
                found.clusters,
                dbscan_clusters(row, maps.grid),
            )
    return table
