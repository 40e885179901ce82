"""Splits answers into fit, select, calibrate and test; no group lies in two of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Store
from probes.errors import DataError, StoreError
from probes.model.bundle import Bundle

SplitName = Literal["fit", "select", "calibrate", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


def split_by_image(
    groups: Sequence[str], shares: Mapping[SplitName, float], seed: int
) -> NDArray[np.str_]:
    """Give every answer the split of its image, or of the group that its image is in.

    A split depends on the seed and the label alone (an image's content hash, where it is alone in
    its group): adding or dropping other answers never moves it, and a group stays together.

    Args:
        groups: label of each answer's group (``Store.groups``), shape (n,).
        shares: share of the groups per split; they sum to 1.
        seed: another seed, another split.

    Returns the split's name per answer, shape (n,). Raises DataError when the shares do not fit.
    """
    unknown = set(shares) - set(SPLITS)
    if unknown:
        raise DataError(f"shares: unknown split {min(unknown)!r}; use {', '.join(SPLITS)}")
    if min(shares.values(), default=0.0) < 0 or not math.isclose(sum(shares.values()), 1.0):
        raise DataError(f"shares: {dict(shares)} must be positive and sum to 1")
    names = [name for name in SPLITS if shares.get(name, 0.0) > 0]
    edges = np.cumsum([shares[name] for name in names])[:-1]
    unique, inverse = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    points = [_uniform(str(group), seed) for group in unique]
    return np.asarray(names, dtype=np.str_)[np.searchsorted(edges, points, side="right")][inverse]


def _uniform(group: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def splits_of(store: Store, bundle: Bundle) -> NDArray[np.str_]:
    """Return every answer's split, as training made it. Raises StoreError for another store."""
    if store.fingerprint != bundle.data:
        raise StoreError(
            f"store: {store.fingerprint[:12]} is not {bundle.data[:12]}, which the bundle was "
            "trained on; give that one"
        )
    split = bundle.training["split"]
    if split.get("groups", groups_digest(store)) != groups_digest(
        store
    ):  # bundles of before name none
        raise StoreError(
            "store: its images are grouped otherwise than when the bundle was trained, so that its "
            "test split may hold what it was trained on; collect all of those images, or train "
            "again"
        )
    return split_by_image(store.groups.tolist(), split["shares"], split["seed"])


def groups_digest(store: Store) -> str:
    """Return a hash of the images whose label is not their own hash, in any order."""
    labelled = zip((record.image_hash for record in store.records), store.groups, strict=True)
    joined = sorted({f"{image} {label}" for image, label in labelled if image != label})
    return hashlib.sha256("\n".join(joined).encode()).hexdigest()
