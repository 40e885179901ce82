"""Fits other probes beside the L2 one, and chooses which one ships.

``l2``       the best layer and position of :mod:`probes.fit.layers`.
``l1``       an L1 penalty there, C by cross-validation.
``blank``    the L2 probe taught that the image must matter, after BICR (arXiv 2605.10893): for
             every right answer the state with the real image is to look less wrong than the state
             with a blank one. A linear probe ranks such a pair by its weights on the difference
             alone, so a pair is one more row (the difference, no intercept) labelled right under
             the same logistic loss; how much pairs count is cross-validated. The paper has a small
             MLP, a margin and a black image; this is a linear stand-in on grey ones, at the last
             prompt token of the best such layer, where no answer has been read yet.
``ensemble`` mean of the L2 probes' log-odds over all layers at the best position.
``mlp``      one hidden layer of 64 on the best layer and position.

All are judged on the selection split. The simplest one within noise of the best ships, as long
as one readout of one layer can serve it: the ensemble and the MLP cannot. Where one of those is
ahead beyond noise the table says so, and the best linear one ships.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from probes.data.blank_run import blank_rows
from probes.data.store import Store
from probes.errors import TrainingError
from probes.fit.layers import Candidate
from probes.fit.linear import Standardised, held_out
from probes.fit.logistic import fit_path
from probes.model.probe import LinearProbe
from probes.stats.bootstrap import paired_difference
from probes.stats.metrics import auroc
from probes.types import FloatArray, Interval, Missing

L1_STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
PAIR_WEIGHTS = (0.1, 0.3, 1.0)
MLP_UNITS = 64
MLP_BATCH = 200
MLP_UPDATES = (50, 150, 400)
MLP_FOLDS = 2


@dataclass(frozen=True, slots=True)
class ProbeModel:
    """One kind of probe on the selection split.

    Args:
        name: see above.
        setting: what cross-validation chose, such as ``C = 0.01``.
        auroc: on the selection split, or why there is none.
        best_ahead_by: paired difference of the best one's AUROC to this one's.
        servable: a bundle can hold it.
        chosen: it is shipped.
    """

    name: str
    setting: str
    auroc: float | Missing
    best_ahead_by: Interval | Missing
    servable: bool
    chosen: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    name: str
    setting: str
    logits: FloatArray
    probe: LinearProbe | None


def choose_probe(
    store: Store,
    candidates: Sequence[Candidate],
    fit: NDArray[np.bool_],
    select: NDArray[np.bool_],
    *,
    blank: Store | None,
    seed: int,
) -> tuple[LinearProbe, tuple[ProbeModel, ...]]:
    """Fit every challenger and choose.

    Args:
        candidates: of :func:`probes.fit.layers.fit_layers`, best first.
        fit, select: answers, (n,).
        blank: blank run of the same questions; without it that challenger is missing.

    Returns the probe that is shipped, without components, and the table, simplest first.
    """
    best = candidates[0]
    entries = [_Entry("l2", f"C = {best.entry.regularisation:g}", best.logits, best.probe)]
    with threadpool_limits(1):
        entries.append(_fit_l1(store, best, fit, select))
        if blank is not None:
            entries.append(_fit_with_blank(store, candidates, fit, select, blank))
        entries.append(_ensemble(candidates))
        entries.append(_fit_mlp(store, best, fit, select, seed))
    wrong, groups = store.wrong[select], store.groups[select]
    values = {one.name: float(roc_auc_score(wrong, one.logits)) for one in entries}
    first = max(entries, key=lambda one: values[one.name])
    ahead = {
        one.name: paired_difference(auroc, first.logits, one.logits, wrong, groups, seed=seed)
        for one in entries
    }
    servable = [one for one in entries if one.probe is not None]
    within = [one for one in servable if _within_noise(ahead[one.name])]
    shipped = within[0] if within else max(servable, key=lambda one: values[one.name])
    table = [
        ProbeModel(
            one.name,
            one.setting,
            values[one.name],
            ahead[one.name],
            one.probe is not None,
            one is shipped,
        )
        for one in entries
    ]
    if blank is None:
        absent = Missing("no_blank_run")
        table.insert(2, ProbeModel("blank", "", absent, absent, True, False))
    assert shipped.probe is not None
    return shipped.probe, tuple(table)


def _within_noise(ahead: Interval | Missing) -> bool:
    if isinstance(ahead, Missing):
        raise TrainingError(f"probe: {ahead.reason} in the selection split; collect more")
    return ahead.lower <= 0


def _fit_l1(
    store: Store, best: Candidate, fit: NDArray[np.bool_], select: NDArray[np.bool_]
) -> _Entry:
    layer, position = best.probe.layer, best.probe.position
    hidden = store.hidden((layer, position))
    known, wrong = Standardised.of(hidden[fit]), store.wrong[fit]

    def model(strength: float, rows: NDArray[np.bool_]) -> LogisticRegression:
        # liblinear draws the order of its steps at random; a seed makes it the same every time.
        kind = LogisticRegression(
            l1_ratio=1, C=strength, solver="liblinear", max_iter=1000, tol=1e-3, random_state=0
        )
        return kind.fit(known.table[rows], wrong[rows])

    def quality(strength: float) -> float:
        values = [
            roc_auc_score(wrong[rows], model(strength, ~rows).decision_function(known.table[rows]))
            for rows in held_out(wrong, store.groups[fit])
        ]
        return float(np.mean(values or [0.0]))

    strength = max(L1_STRENGTHS, key=quality)
    found = model(strength, np.ones(wrong.size, dtype=bool))
    probe = known.probe(layer, position, found.coef_[0], found.intercept_[0])
    setting = f"C = {strength:g}, {int((found.coef_ != 0).sum())} weights"
    return _Entry("l1", setting, probe.logit(probe.project(hidden[select])), probe)


def _fit_with_blank(
    store: Store,
    candidates: Sequence[Candidate],
    fit: NDArray[np.bool_],
    select: NDArray[np.bool_],
    blank: Store,
) -> _Entry:
    best = next((one for one in candidates if one.entry.position == "prompt_last"), None)
    if best is None:
        raise TrainingError("blank images: need states at prompt_last; collect that position")
    layer, position = best.probe.layer, best.probe.position
    hidden = store.hidden((layer, position))
    known, wrong, groups = Standardised.of(hidden[fit]), store.wrong[fit], store.groups[fit]
    rows_of_blank, paired = blank_rows(store, blank, (layer, position))
    blind = blank.hidden((layer, position))
    right = (paired[fit] & ~wrong).nonzero()[0]
    difference = known.table[right] - known.apply(blind[rows_of_blank[fit][right]])
    table = np.concatenate([known.table, difference])
    target = np.concatenate([wrong, np.zeros(right.size, dtype=bool)])
    constant = np.concatenate([np.ones(wrong.size), np.zeros(right.size)])
    held = held_out(wrong, groups)
    columns = []
    for weight in PAIR_WEIGHTS:
        for rows in (*held, np.zeros(wrong.size, dtype=bool)):
            kept = (~rows).astype(np.float64)
            columns.append(np.concatenate([kept, weight * kept[right]]))
    strength = best.entry.regularisation
    (found,) = fit_path(table, target, np.column_stack(columns), (strength,), constant=constant)
    logits = known.table @ found.weights
    per = len(held) + 1

    def quality(index: int) -> float:
        values = [
            roc_auc_score(wrong[rows], logits[rows, index * per + fold])
            for fold, rows in enumerate(held)
        ]
        return float(np.mean(values or [0.0]))

    index = max(range(len(PAIR_WEIGHTS)), key=quality)
    whole = index * per + per - 1
    probe = known.probe(layer, position, found.weights[:, whole], found.intercepts[whole])
    setting = f"layer {layer}, C = {strength:g}, pairs count {PAIR_WEIGHTS[index]:g}"
    return _Entry("blank", setting, probe.logit(probe.project(hidden[select])), probe)


def _ensemble(candidates: Sequence[Candidate]) -> _Entry:
    position = candidates[0].entry.position
    members = [one for one in candidates if one.entry.position == position]
    logits = np.mean([one.logits for one in members], axis=0)
    layers = ", ".join(str(layer) for layer in sorted(one.entry.layer for one in members))
    return _Entry("ensemble", f"layers {layers} at {position}", logits, None)


def _fit_mlp(
    store: Store, best: Candidate, fit: NDArray[np.bool_], select: NDArray[np.bool_], seed: int
) -> _Entry:
    hidden = store.hidden((best.probe.layer, best.probe.position))
    known, wrong = Standardised.of(hidden[fit]), store.wrong[fit]

    def run(rows: NDArray[np.bool_], table: NDArray[np.float32]) -> dict[int, FloatArray]:
        """Log-odds of the table's rows after each number of updates, rounded up to epochs."""
        batch = min(MLP_BATCH, int(rows.sum()))
        model = MLPClassifier((MLP_UNITS,), alpha=1e-2, batch_size=batch, random_state=seed)
        found: dict[int, FloatArray] = {}
        made, per_epoch = 0, math.ceil(int(rows.sum()) / batch)
        for updates in MLP_UPDATES:
            while made < updates:
                model.partial_fit(known.table[rows], wrong[rows], classes=[False, True])
                made += per_epoch
            chance = model.predict_proba(table)[:, 1].astype(np.float64)
            found[updates] = logit(np.clip(chance, 1e-9, 1 - 1e-9))
        return found

    held = held_out(wrong, store.groups[fit])[:MLP_FOLDS]
    runs = [(rows, run(~rows, known.table[rows])) for rows in held]

    def quality(updates: int) -> float:
        values = [roc_auc_score(wrong[rows], found[updates]) for rows, found in runs]
        return float(np.mean(values or [0.0]))

    updates = max(MLP_UPDATES, key=quality)
    logits = run(np.ones(wrong.size, dtype=bool), known.apply(hidden[select]))[updates]
    return _Entry("mlp", f"{MLP_UNITS} units, {updates} updates", logits, None)
