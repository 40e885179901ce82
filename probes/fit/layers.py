"""Fits one probe per layer and position, in parallel, and ranks them."""

from __future__ import annotations

from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from probes.data.store import Place, Store
from probes.errors import TrainingError
from probes.fit.linear import cross_validate
from probes.model.probe import LinearProbe
from probes.types import FloatArray, Position

MOST_WORKERS = 8
"""A worker holds the states of one layer: a few hundred MB for a large model."""


@dataclass(frozen=True, slots=True)
class ProbeCandidate:
    """One layer and position that was tried: its C, and its AUROC on the selection split."""

    layer: int
    position: Position
    regularisation: float
    auroc: float


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A candidate with its probe.

    Args:
        logits: on the selection split, (selected,).
    """

    entry: ProbeCandidate
    probe: LinearProbe
    logits: FloatArray


def read_places(store: Store) -> tuple[list[Place], NDArray[np.bool_]]:
    """Return the layers and positions that were read, and which answers have all of them, (n,).

    So all candidates meet the same answers. Raises TrainingError when there is none.
    """
    present = store.arrays.present
    places = [place for i, place in enumerate(store.setup.readouts) if present[:, i].any()]
    if not places:
        raise TrainingError("the store holds no hidden states; collect it with layers to read")
    columns = [store.setup.readouts.index(place) for place in places]
    return places, np.asarray(present[:, columns].all(axis=1))


def fit_layers(
    store: Store, fit: NDArray[np.bool_], select: NDArray[np.bool_]
) -> tuple[Candidate, ...]:
    """Fit a probe per layer and position on ``fit``, judge it on ``select``; best first.

    One layer per worker, each with one thread: the same result whatever the number of cores.

    Args:
        fit: answers that the weights and C come from, (n,). select: answers to choose on, (n,).
    """
    if np.unique(store.wrong[select]).size < 2:
        raise TrainingError(
            "the selection split needs right and wrong answers to choose a layer on"
        )
    places, _ = read_places(store)
    workers = min(joblib.cpu_count(), MOST_WORKERS, len(places))
    wrong, groups = store.wrong, store.groups

    def one(place: Place) -> Candidate:
        hidden = store.hidden(place)
        layer, position = place
        probe, strength = cross_validate(
            hidden[fit], wrong[fit], groups[fit], layer=layer, position=position
        )
        logits = probe.logit(probe.project(hidden[select]))
        auroc = float(roc_auc_score(wrong[select], logits))
        return Candidate(ProbeCandidate(layer, position, strength, auroc), probe, logits)

    with threadpool_limits(1):
        found = joblib.Parallel(workers, prefer="threads")(joblib.delayed(one)(p) for p in places)
    return tuple(sorted(found, key=lambda candidate: -candidate.entry.auroc))
