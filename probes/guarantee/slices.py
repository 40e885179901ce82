"""Decides which slices of the traffic are tested alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probes.data.record import Record
from probes.model.slicing import Slicing

MARGIN = 2
"""A slice is tested alone when calibration has this many times the images that would prove alpha
if every answer were accepted and right."""


def slice_groups(
    names: NDArray[np.str_], images: NDArray[np.str_], growth: float, alpha: float, delta: float
) -> list[tuple[str, ...]]:
    """Return the slices to test alone, and last those too small for it, as one group.

    Fixed on the selection split, so that nothing of the calibration split decides what is tested.

    Args:
        names: slice of each selected answer, (n,). images: its image, (n,).
        growth: images in the calibration split per image in the selection split.
        alpha: error rate to be promised.
        delta: chance of a wrong promise that all certificates may share.
    """
    found = [str(name) for name in np.unique(names)]
    least = MARGIN * answers_needed(alpha, delta / (len(found) + 1))
    large = [name for name in found if growth * np.unique(images[names == name]).size >= least]
    small = tuple(name for name in found if name not in large)
    return [*((name,) for name in large), *((small,) if small else ())]


def answers_needed(alpha: float, delta: float) -> int:
    """Return how many groups of accepted answers prove alpha at delta when none is wrong."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def slice_names(records: Sequence[Record], slicing: Slicing) -> NDArray[np.str_]:
    """Return the slice of every answer, (n,)."""
    return np.array([getattr(record, slicing.by) for record in records], dtype=np.str_)
