"""Finds images that show one scene by how they look, whatever their bytes are.

Frames of one scene (noise, another exposure, JPEG, a few pixels of motion) have other hashes, and
their answers are wrong together. An image's look is 16 x 16 cells of brightness and colour. Two
looks are compared as vectors of length one, moved against each other by up to a third of a cell, so
that motion does not count; of the overall brightness a tenth counts. The limits were set on 4,200
line images, all in one style of drawing: see docs/decisions/0010.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from probes.types import ImageArray

SIDE = 16
LIMIT = 0.32
"""Distance of two looks, 0 to 2, up to which they are one scene's."""

_COARSE = 0.5  # the same of the looks' 8 x 8 means, unmoved: who is compared at all
_COORDINATES = 32  # leading ones of those, which a first pass over all pairs reads
_SHIFTS = (-0.3, 0.0, 0.3)  # cells
_CONTRAST = 4.0  # grey levels; what is flatter than this is all noise
_ROWS = 512
_PAIRS = 4096

Looks = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that look alike, by their rows, and their distance."""

    first: int
    second: int
    distance: float


def look(image: ImageArray) -> Looks:
    """An image's look: brightness and two colours (YCbCr), shape (16, 16, 3)."""
    size = (SIDE, SIDE)
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)  # antialiased
    return np.asarray(small.convert("YCbCr"))


def join(looks: Looks, labels: NDArray[np.intp], named: NDArray[np.bool_]) -> list[Pair]:
    """Find pairs of images that look alike and are not grouped yet: enough to connect them all.

    Two named images are left as they are: the person who named them knows. All pairs are
    looked at in blocks, by one matrix product each, and only what is near in it is compared in
    full: 10,000 images of one style take 8 s of one processor, and the time grows with the square.
    The memory is that of the looks and of a block (512 rows by n).

    Args:
        looks: (n, 16, 16, 3). labels: of what is together already, 0 to n - 1, (n,).
        named: which images have a group of that name, (n,).
    """
    cells = _cells(looks)
    coarse = _vectors(cells.reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(2, 4)))
    found: list[Pair] = []
    for first, second in _near(coarse):
        while True:
            apart = (labels[first] != labels[second]) & ~(named[first] & named[second])
            first, second = first[apart], second[apart]
            if first.size == 0:
                break
            # One pair of each image at a time: of a thousand frames nearly all pairs are together
            # after the first ones.
            once = np.unique(second, return_index=True)[1]
            distances = _distances(cells, first[once], second[once])
            for at in np.flatnonzero(distances <= LIMIT):
                row = once[at]
                found.append(Pair(int(first[row]), int(second[row]), float(distances[at])))
            joined = once[distances <= LIMIT]
            labels = connect(labels, first[joined], second[joined])
            first, second = np.delete(first, once), np.delete(second, once)
    return found


def connect(
    labels: NDArray[np.intp], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the labels after joining rows ``first`` and ``second``, pair by pair, (n,)."""
    size = int(labels.max()) + 1
    edges = coo_array(
        (np.ones(len(first), dtype=bool), (labels[first], labels[second])), shape=(size, size)
    )
    return np.asarray(connected_components(edges, directed=False)[1][labels], dtype=np.intp)


def nearest(looks: Looks, labels: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Distance of each row's look to the nearest of another group, 0 to 2, shape (rows,).

    Without shifts, on 8 x 8 cells: no bound on anything, but it shows how alike a camera's pictures
    are. Infinite where there is no other group.
    """
    halves = _cells(looks).reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(2, 4))
    vectors = _vectors(halves)
    lengths = (vectors**2).sum(axis=1)
    found = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        squares = lengths[some, None] + lengths[None, :] - 2 * vectors[some] @ vectors.T
        squares[labels[some, None] == labels[None, :]] = np.inf
        found[start : start + _ROWS] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return found


def _near(vectors: Vectors) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """All pairs (first < second) within the coarse limit, block by block.

    An orthogonal projection never lengthens a distance, so that its first coordinates leave nothing
    out; the others then decide.
    """
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :_COORDINATES]
    leading = centred @ axes
    lengths = (leading**2).sum(axis=1)
    for start in range(0, len(vectors), _ROWS):
        some, rest = leading[start : start + _ROWS], leading[start:]
        squares = lengths[start : start + _ROWS, None] + lengths[None, start:] - 2 * some @ rest.T
        first, second = np.nonzero(squares <= _COARSE**2 + 1e-4)
        later = second > first
        first, second = first[later] + start, second[later] + start
        parts = [
            ((vectors[first[at : at + _PAIRS]] - vectors[second[at : at + _PAIRS]]) ** 2).sum(
                axis=1
            )
            for at in range(0, len(first), _PAIRS)
        ]
        near = np.concatenate(parts or [np.empty(0)]) <= _COARSE**2
        yield first[near], second[near]


def _cells(looks: Looks) -> Vectors:
    """Brightness and colour around their middle; of the mean brightness a tenth stays."""
    cells = looks.astype(np.float32) - 128
    cells[..., 0] -= 0.9 * cells[..., 0].mean(axis=(1, 2), keepdims=True)
    return cells


def _vectors(cells: Vectors) -> Vectors:
    """Of length one, or less where there is next to no contrast, (n, cells)."""
    flat = cells.reshape(len(cells), -1)
    least = _CONTRAST * np.sqrt(cells.shape[1] * cells.shape[2])
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), least))


def _distances(
    cells: Vectors, first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Least distance of each pair over the shifts, (pairs,)."""
    found = np.empty(len(first))
    for start in range(0, len(first), _PAIRS):
        one = cells[first[start : start + _PAIRS]]
        other = _vectors(cells[second[start : start + _PAIRS]][:, 1:-1, 1:-1])
        found[start : start + _PAIRS] = np.min(
            [
                np.linalg.norm(_vectors(_moved(one, down, right)[:, 1:-1, 1:-1]) - other, axis=1)
                for down, right in product(_SHIFTS, _SHIFTS)
            ],
            axis=0,
        )
    return found


def _moved(cells: Vectors, down: float, right: float) -> Vectors:
    """Moved by less than a cell (linear interpolation); the border is not to be used."""
    for axis, share in ((1, down), (2, right)):
        if share:
            step = int(np.sign(share))
            cells = (1 - abs(share)) * cells + abs(share) * np.roll(cells, step, axis=axis)
    return cells
