"""Does the probe read wrongness, or the distribution it was trained on?

Two tests at the bundle's layer and position: trained on one domain and judged on the other, both
ways; and trained without a kind of question and judged on that kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.splits import split_by_image
from probes.data.store import Store
from probes.errors import TrainingError
from probes.fit.linear import cross_validate, fit_linear_probe
from probes.model.probe import LinearProbe
from probes.stats import metrics
from probes.stats.bootstrap import cluster_bootstrap
from probes.types import Interval, Missing

TRAINED, JUDGED = ("fit", "select"), ("calibrate", "test")


def cross_domain(home: StoreView, other: StoreView, resamples: int) -> dict[str, Any]:
    """Compute the AUROC of both domains' probes on both domains.

    Both stores are split by the bundle's seed, which gives an image the same split in each, so that
    no probe has seen an image that it is judged on. The bundle's probe was fitted on ``fit``; the
    other domain's may be small and is fitted on ``fit`` and ``select``. Judged are ``calibrate``
    and ``test`` there, and ``test`` here.
    """
    probe = home.bundle.probe
    layer, position = home.place
    split = home.bundle.training["split"]
    splits = split_by_image(list(home.store.groups), split["shares"], split["seed"])
    here = splits == "test"
    there = split_by_image(list(other.store.groups), split["shares"], split["seed"])
    hidden, present = other.states(home.place)
    trained = np.isin(there, TRAINED) & present
    judged = np.isin(there, JUDGED) & present
    # A group may hold more images in one store than in the other, and lie in another split there.
    ours, theirs = _images(home.store), _images(other.store)
    here &= ~np.isin(ours, theirs[trained])
    judged &= ~np.isin(theirs, ours[np.isin(splits, TRAINED)])
    try:
        foreign: LinearProbe | Missing = cross_validate(
            hidden[trained],
            other.store.wrong[trained],
            other.store.groups[trained],
            layer=layer,
            position=position,
        )[0]
    except TrainingError:
        foreign = Missing("one_class")
    return {
        "answers": {"here": int(here.sum()), "there": int(judged.sum())},
        "trained_here": {
            "judged_here": _auroc(home, here, probe, resamples),
            "judged_there": _auroc(other, judged, probe, resamples),
        },
        "trained_there": {
            "judged_here": _auroc(home, here, foreign, resamples),
            "judged_there": _auroc(other, judged, foreign, resamples),
        },
    }


def _images(store: Store) -> NDArray[np.str_]:
    return np.array([record.image_hash for record in store.records], dtype=np.str_)


def kind_left_out(view: StoreView, splits: NDArray[np.str_], resamples: int) -> dict[str, Any]:
    """Compute per kind of question the AUROC of the probe, and of one fitted without that kind."""
    store, bundle = view.store, view.bundle
    layer, position = view.place
    kinds = np.array([record.kind for record in store.records], dtype=np.str_)
    strength = bundle.training["probe_candidates"][0]["regularisation"]
    hidden, present = view.states(view.place)
    table: dict[str, Any] = {}
    for kind in np.unique(kinds) if np.unique(kinds).size > 1 else ():
        rows = (splits == "fit") & (kinds != kind) & present
        about = (splits == "test") & (kinds == kind)
        try:
            without: LinearProbe | Missing = fit_linear_probe(
                hidden[rows],
                store.wrong[rows],
                layer=layer,
                position=position,
                regularisation=strength,
            )
        except TrainingError:
            without = Missing("one_class")
        table[str(kind)] = {
            "answers": int(about.sum()),
            "with_it": _auroc(view, about, bundle.probe, resamples),
            "without_it": _auroc(view, about, without, resamples),
        }
    return table


def _auroc(
    view: StoreView, rows: NDArray[np.bool_], probe: LinearProbe | Missing, resamples: int
) -> Interval | Missing:
    if isinstance(probe, Missing):
        return probe
    hidden, present = view.states((probe.layer, probe.position))
    rows = rows & present
    if not rows.any():
        return Missing("no_answers")
    score = probe.logit(probe.project(hidden[rows]))
    wrong, groups = view.store.wrong, view.store.groups
    found = cluster_bootstrap(
        {"auroc": metrics.auroc}, {"": score}, wrong[rows], groups[rows], resamples
    )
    return found[""]["auroc"]
