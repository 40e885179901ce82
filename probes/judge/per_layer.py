"""Judges the probe and attention layer by layer: where in the decoder the signals live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.store import Place, Store
from probes.fit.linear import fit_linear_probe
from probes.signals.attention import ATTENTION_METRICS
from probes.signals.catalogue import ATTENTION_SIGNS
from probes.stats import metrics
from probes.stats.bootstrap import cluster_bootstrap


def probe_layers(view: StoreView, splits: NDArray[np.str_], resamples: int) -> list[dict[str, Any]]:
    """Compute the test AUROC of every probe that training tried, refitted with its recorded C.

    The bundle's own place comes first, while its hidden states are in memory.
    """
    candidates = view.bundle.training["probe_candidates"]
    own_first = sorted(candidates, key=lambda one: _place(one) != view.place)
    rows = [_refitted(view, one, splits, resamples) for one in own_first]
    return sorted(rows, key=_place)


def _place(candidate: Mapping[str, Any]) -> Place:
    return candidate["layer"], candidate["position"]


def _refitted(
    view: StoreView, candidate: Mapping[str, Any], splits: NDArray[np.str_], resamples: int
) -> dict[str, Any]:
    store, (layer, position) = view.store, _place(candidate)
    hidden, present = view.states((layer, position))
    fit, test = present & (splits == "fit"), present & (splits == "test")
    probe = fit_linear_probe(
        hidden[fit],
        store.wrong[fit],
        layer=layer,
        position=position,
        regularisation=candidate["regularisation"],
    )
    score = {"probe": probe.logit(probe.project(hidden[test]))}
    found = cluster_bootstrap(
        {"auroc": metrics.auroc}, score, store.wrong[test], store.groups[test], resamples
    )
    return {**candidate, "select_auroc": candidate["auroc"], **found["probe"]}


def attention_layers(store: Store, rows: NDArray[np.bool_], resamples: int) -> list[dict[str, Any]]:
    """Compute AUROC and point-biserial R of every attention metric, per position and layer."""
    rows = rows & store.arrays.attention_present
    if not rows.any():
        return []
    places = [
        (position, layer, metric)
        for position in ("prompt_last", "answer_mean")
        for layer in store.setup.attention_layers
        for metric in ATTENTION_METRICS
    ]
    table = store.arrays.attention[rows].reshape(int(rows.sum()), -1).astype(np.float64)
    scores = {
        str(column): ATTENTION_SIGNS[metric] * table[:, column]
        for column, (_, _, metric) in enumerate(places)
    }
    found = cluster_bootstrap(
        {"auroc": metrics.auroc, "point_biserial": metrics.point_biserial},
        scores,
        store.wrong[rows],
        store.groups[rows],
        resamples=max(1, resamples // 5),
    )
    return [
        {"position": position, "layer": layer, "metric": metric, **found[str(column)]}
        for column, (position, layer, metric) in enumerate(places)
    ]
