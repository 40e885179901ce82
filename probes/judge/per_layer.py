"""Where in the decoder the signals live: the probe and attention, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import states
from probes.data.store import Store
from probes.fit.linear import fit_linear_probe
from probes.judge.side_by_side import ATTENTION_SIGNS
from probes.model.bundle import Bundle
from probes.signals.attention import ATTENTION_METRICS
from probes.stats import metrics
from probes.stats.bootstrap import cluster_bootstrap


def probe_layers(
    store: Store, bundle: Bundle, splits: NDArray[np.str_], resamples: int
) -> list[dict[str, Any]]:
    """AUROC on the test split of every probe that was tried, refitted with its recorded C."""
    rows = []
    for candidate in bundle.training["probe_candidates"]:
        place = (candidate["layer"], candidate["position"])
        hidden, present = states(store, place)
        fit, test = present & (splits == "fit"), present & (splits == "test")
        probe = fit_linear_probe(
            hidden[fit],
            store.wrong[fit],
            layer=place[0],
            position=place[1],
            regularisation=candidate["regularisation"],
        )
        score = {"probe": probe.logit(probe.project(hidden[test]))}
        found = cluster_bootstrap(
            {"auroc": metrics.auroc}, score, store.wrong[test], store.groups[test], resamples
        )
        rows.append({**candidate, "select_auroc": candidate["auroc"], **found["probe"]})
    return sorted(rows, key=lambda row: (row["layer"], row["position"]))


def attention_layers(store: Store, rows: NDArray[np.bool_], resamples: int) -> list[dict[str, Any]]:
    """AUROC and point-biserial R of every attention metric, per position and layer."""
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
