"""Pairs the answers of a run with blank images with those of the real run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes.data.store import Place, Store
from probes.errors import StoreError


def check_blank_run(store: Store, blank: Store) -> None:
    """Raise StoreError unless ``blank`` asked the same questions about blank images."""
    if blank.setup.image != "blank":
        raise StoreError("blank: the run shows real images; collect one with --image blank")
    if blank.setup.model != store.setup.model:
        raise StoreError("blank: was collected with another model; collect it with this one")
    if blank.setup.dataset != store.setup.dataset:
        raise StoreError("blank: was collected on other questions; collect it on the same ones")


def blank_rows(
    store: Store, blank: Store, place: Place
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Find the row in ``blank`` of every answer of ``store``, (n,), and whether it has one, (n,).

    A row whose hidden state was not read at this place counts as none and is given as 0.
    """
    check_blank_run(store, blank)
    if place not in blank.setup.readouts:
        raise StoreError(f"blank: layer {place[0]} at {place[1]} was not collected (--layers)")
    present = blank.arrays.present[:, blank.setup.readouts.index(place)]
    rows = {record.id: row for row, record in enumerate(blank.records) if present[row]}
    found = np.array([rows.get(record.id, -1) for record in store.records], dtype=np.intp)
    return np.maximum(found, 0), found >= 0
