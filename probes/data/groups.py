"""Groups of answers that depend on each other: those of one image, one named group or one scene.

Splits, bootstraps and certificates treat groups as independent of each other, never the answers
in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.near_duplicates import Looks, Pair, connect, join, nearest
from probes.data.record import Record
from probes.types import Missing

SHOWN = 5
SAMPLED = 2000
NEAREST = (0.01, 0.05, 0.25, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The groups of a run.

    Args:
        labels: of each answer, (n,). A group's label is the name that it has, the first in order
            where several were joined; without a name it is the smallest content hash of its images.
        images: a row of each image's first answer, (images,).
        of_images: each image's label as a number, (images,).
        pairs: images that were joined for their looks, as rows of answers, or why none were looked
            for.
        looks: of each image, (images, 16, 16, 3), or why there are none.
    """

    labels: NDArray[np.str_]
    images: NDArray[np.intp]
    of_images: NDArray[np.intp]
    pairs: tuple[Pair, ...] | Missing
    looks: Looks | Missing

    @property
    def largest(self) -> int:
        """Most images in one group."""
        return int(np.bincount(self.of_images).max())

    @property
    def joined(self) -> float:
        """Share of the images that are not alone in their group."""
        sizes = np.bincount(self.of_images)
        return float((sizes[self.of_images] > 1).mean())

    def likeness(self) -> dict[str, Any]:
        """Describe how much the images look alike, as plain JSON apart from missing values."""
        near = self.nearest()
        return {
            "images": len(self.images),
            "groups": int(np.unique(self.of_images).size),
            "largest": self.largest,
            "joined": self.joined,
            "looks_alike": self.pairs if isinstance(self.pairs, Missing) else len(self.pairs),
            "nearest": near
            if isinstance(near, Missing)
            else {f"{share:g}": float(np.quantile(near, share)) for share in NEAREST},
        }

    def nearest(self, seed: int = 0) -> NDArray[np.float64] | Missing:
        """Distance of some images' looks to the nearest image of another group, (at most 2000,)."""
        if isinstance(self.looks, Missing):
            return self.looks
        if np.unique(self.of_images).size == 1:
            return Missing("one_group")
        order = np.random.default_rng(seed).permutation(len(self.images))[:SAMPLED]
        return nearest(self.looks, self.of_images, order)


def group(records: Sequence[Record], looks: Looks | Missing) -> Groups:
    """Group images that share a content hash, a name or a look.

    Two named images are never compared by their looks: pictures of different parts may well
    look alike, and the person who named them knows.

    Args:
        records: n answers. looks: of their images, (n, 16, 16, 3).
    """
    hashes = np.array([record.image_hash for record in records], dtype=np.str_)
    names = [record.group for record in records]
    unique, images, image_of = np.unique(hashes, return_index=True, return_inverse=True)
    labels, named = _by_name(names, image_of, len(unique))
    pairs: tuple[Pair, ...] | Missing
    if isinstance(looks, Missing):
        pairs = looks
    else:
        looks = looks[images]
        found = join(looks, labels, named)
        labels = connect(labels, *_ends(found))
        pairs = tuple(
            Pair(int(images[one.first]), int(images[one.second]), one.distance) for one in found
        )
    told = np.array(_told(labels[image_of], hashes, names), dtype=np.str_)
    return Groups(told[labels[image_of]], images, labels, pairs, looks)


def warnings_of(groups: Groups, records: Sequence[Record]) -> list[str]:
    """Return what a person should know before using the groups; nothing where none was joined."""
    if isinstance(groups.pairs, Missing) or not groups.pairs:
        return []
    shown = sorted(groups.pairs, key=lambda pair: pair.distance)[:SHOWN]
    told = "; ".join(
        f"{records[one.first].id} and {records[one.second].id} ({records[one.first].image_path}, "
        f"{records[one.second].image_path}: {one.distance:.2f})"
        for one in shown
    )
    more = "" if len(groups.pairs) <= SHOWN else f"; and {len(groups.pairs) - SHOWN} pairs more"
    return [
        f"{len(groups.pairs)} pairs of images look like one scene and count as one group (largest: "
        f"{groups.largest} of {len(groups.images)} images): {told}{more}. If they are different "
        "parts or scenes, name each line's group in the dataset"
    ]


def _by_name(
    names: Sequence[str | None], image_of: NDArray[np.intp], count: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return labels that images with one name share, and which have a name, (images,) each."""
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(name, int(image)), int(image))
        for name, image in zip(names, image_of, strict=True)
        if name is not None
    ]
    named = np.zeros(count, dtype=bool)
    named[[image for _, image in pairs]] = True
    ends = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return connect(np.arange(count), ends[:, 0], ends[:, 1]), named


def _ends(pairs: Sequence[Pair]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    ends = np.array([(one.first, one.second) for one in pairs], dtype=np.intp).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def _told(
    labels: NDArray[np.intp], hashes: NDArray[np.str_], names: Sequence[str | None]
) -> list[str]:
    """Return each group's label as text."""
    told: dict[int, tuple[bool, str]] = {}
    for label, image, name in zip(labels.tolist(), hashes.tolist(), names, strict=True):
        one = (True, image) if name is None else (False, name)
        told[label] = min(told.get(label, one), one)
    return [told[label][1] for label in range(len(told))]
