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
from scipy import ndimage, special

from probes.signals.catalogue import ATTENTION_SIGNS
from probes.types import (
    AttentionConcentration,
    AttentionMaps,
    FloatArray,
    Missing,
    Trace,
)

ATTENTION_METRICS: tuple[str, ...] = tuple(ATTENTION_SIGNS)
TOP_SHARE = 0.3
HEAD_METRICS: tuple[str, ...] = ("spatial_entropy", "top30_mass")
_EIGHT = np.ones((3, 3), dtype=np.int64)
_FOUR = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.int64)


def concentration(row: FloatArray, grid: tuple[int, int]) -> AttentionConcentration | Missing:
    """Measure how concentrated one attention row over the image tokens is.

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
    _, clusters = ndimage.label(top.reshape(grid), structure=_FOUR)
    return AttentionConcentration(
        spatial_entropy=max(0.0, -float(positive @ np.log(positive))),
        top30_mass=float(shares[top].sum()),
        image_mass=mass,
        clusters=int(clusters),
    )


def _shares(rows: FloatArray, grid: tuple[int, int]) -> FloatArray | Missing:
    """Normalise rows (..., image_tokens) over the image tokens."""
    if rows.shape[-1] != grid[0] * grid[1]:
        return Missing("grid_mismatch")
    mass = rows.sum(axis=-1, keepdims=True, dtype=np.float64)
    if not np.isfinite(mass).all():
        return Missing("not_finite")
    if (mass <= 0).any():
        return Missing("no_image_attention")
    shares: FloatArray = rows / mass
    return shares


def _entropy(shares: FloatArray) -> FloatArray:
    """Return the entropy of each row of shares (..., image_tokens), nats."""
    entropy: FloatArray = np.maximum(0.0, special.entr(shares).sum(axis=-1))
    return entropy


def top_mask(row: FloatArray) -> NDArray[np.bool_]:
    """Return the 30 % most attended tokens of each row; the first in raster order win ties.

    Args:
        row: (..., image_tokens).
    """
    count = math.ceil(TOP_SHARE * row.shape[-1])
    mask = np.zeros(row.shape, dtype=bool)
    order = (-row).argsort(axis=-1, kind="stable")[..., :count]
    if row.ndim == 1:  # as the service asks, for every answer
        mask[order] = True
    else:
        np.put_along_axis(mask, order, True, axis=-1)
    return mask


def dbscan_clusters(rows: FloatArray, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Count the clusters of the earlier C_k: DBSCAN (eps 1.5, 3 points) from the 90th percentile.

    On a grid eps 1.5 reaches the eight neighbours, so its clusters are the 8-connected components
    of the tokens with two or more neighbours in the mask: the same number in far less time.

    Args:
        rows: (rows, image_tokens).
    """
    limits = np.quantile(rows, 0.9, axis=-1, keepdims=True)
    mask = (rows >= limits).reshape(-1, *grid)
    touching = ndimage.convolve(mask.astype(np.int64), _EIGHT[None], mode="constant")
    return _components(mask & (touching >= 3), _EIGHT)


def _components(masks: NDArray[np.bool_], joined: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count connected components of each mask, (masks,); ``joined`` says which neighbours touch."""
    apart = np.zeros_like(joined)
    labels, _ = ndimage.label(masks, structure=np.stack([apart, joined, apart]))
    # Numbered mask by mask: what a mask adds to the numbers so far is its own.
    highest = np.maximum.accumulate(labels.reshape(len(masks), -1).max(axis=1))
    counts: NDArray[np.int64] = np.diff(highest, prepend=0)
    return counts


def measure_attention(trace: Trace) -> AttentionConcentration | Missing:
    """Measure attention from the answer tokens, averaged over the layers read."""
    maps = trace.attention
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    return concentration(maps.answer_mean.mean(axis=0), maps.grid)


def attention_table(trace: Trace) -> NDArray[np.float32] | Missing:
    """Measure every metric of every layer, as collection stores it.

    Returns shape (2, layers, 5): positions ``prompt_last`` and ``answer_mean``, the layers read,
    then :data:`ATTENTION_METRICS`; ``Missing`` as soon as one row cannot be measured.
    """
    maps = trace.attention
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    rows = np.stack([maps.prompt_last, maps.answer_mean])
    shares = _shares(rows, maps.grid)
    if isinstance(shares, Missing):
        return shares
    top = top_mask(shares)
    flat = rows.reshape(-1, rows.shape[-1])
    shape = rows.shape[:-1]
    columns = (
        _entropy(shares),
        np.where(top, shares, 0.0).sum(axis=-1),
        rows.sum(axis=-1, dtype=np.float64),
        _components(top.reshape(-1, *maps.grid), _FOUR).reshape(shape),
        dbscan_clusters(flat, maps.grid).reshape(shape),
    )
    return np.stack(columns, axis=-1).astype(np.float32)


def head_table(maps: AttentionMaps | Missing) -> FloatArray | Missing:
    """Measure :data:`HEAD_METRICS` head by head, (2 positions, layers, heads, metrics), float16.

    Args:
        maps: :attr:`Trace.heads`.
    """
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    shares = _shares(np.stack([maps.prompt_last, maps.answer_mean]), maps.grid)
    if isinstance(shares, Missing):
        return shares
    mass = np.where(top_mask(shares), shares, 0.0).sum(axis=-1)
    return np.stack([_entropy(shares), mass], axis=-1).astype(np.float16)
