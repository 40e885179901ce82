"""Trains a bundle, still without certificates, on a store.

``fit`` gives the probes' weights; ``select`` gives the probe, fusion, calibration map, the domain's
limit and the golden examples. ``calibrate`` and ``test`` are not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.base_accuracy import base_accuracy
from probes.data.columns import Columns, measure_columns, measure_risk
from probes.data.images import load_image
from probes.data.splits import SPLITS, SplitName, groups_digest, split_by_image
from probes.data.store import Store
from probes.errors import StoreError
from probes.fit.calibration_choice import CalibrationCandidate
from probes.fit.challengers import ProbeModel, choose_probe
from probes.fit.domain import fit_domain
from probes.fit.fusion import (
    CANDIDATES,
    FusionCandidate,
    by_kind,
    choose_fusion,
    fit_risk_model,
    out_of_fold_auroc,
)
from probes.fit.layers import fit_layers, read_places
from probes.fit.linear import with_components
from probes.fit.question_kinds import fit_kinds
from probes.fit.questions import fit_questions
from probes.model.bundle import Bundle, Golden
from probes.model.folder import write_bundle
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.risk import KIND, RiskModel
from probes.monitor.drift import RiskHistogram
from probes.signals.question import QuestionModel, collapse
from probes.signals.question_kind import KindModel
from probes.signals.sampling import image_hash
from probes.types import FloatArray, Missing, Query

SHARES: Mapping[SplitName, float] = {"fit": 0.35, "select": 0.15, "calibrate": 0.25, "test": 0.25}
DOMAIN_QUANTILE = 0.97
QUESTION_QUANTILE = 0.98
"""Higher than the image side's: the two shares of the site's own requests outside add up."""
GOLDEN = 8


def train(
    store: Store,
    out: Path,
    *,
    seed: int = 0,
    shares: Mapping[SplitName, float] = SHARES,
    policy: Policy | None = None,
    blank: Store | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Train a gate and write its bundle to a new folder.

    Args:
        seed: of the split and the bootstrap; the same store and seed give the same bundle id.
        shares: of the groups per split.
        policy: what is to be certified; its required signals are set to those the risk reads.
        blank: run of the same examples with blank images, for the challenger that is taught with
            them.
        progress: called with the name of each step as it begins.

    Raises TrainingError when a split holds too little, StoreError when a golden example's image is
    gone or the blank run does not fit, BundleError when the folder exists.
    """
    say = progress or (lambda step: None)
    splits = split_by_image(store.groups.tolist(), shares, seed)
    fit, select = splits == "fit", splits == "select"
    say("probe per layer and position")
    probe, probes_tried = _train_probe(store, fit, select, blank, seed)
    told = _train_kinds(store, fit)
    kinds = None if isinstance(told, Missing) else told
    columns = measure_columns(store, probe, kinds)
    say("fusion and calibration")
    stage_one, stage_two, risks_tried = _train_risks(store, columns, select, kinds, seed)
    say("domain of validity")
    domain = fit_domain(store.arrays.image_features[select], DOMAIN_QUANTILE)
    questions = _train_questions(store, fit, select)
    say("golden examples")
    bundle = Bundle(
        id="",
        model=store.setup.model,
        generation=store.setup.generation,
        attention_layers=store.setup.attention_layers,
        probe=probe,
        stage_one=stage_one,
        stage_two=stage_two,
        domain=domain,
        questions=questions,
        policy=_policy(policy or Policy(), stage_one),
        alpha=None,
        attempts=(),
        golden=_golden(store, probe, select),
        data=store.fingerprint,
        training={
            "split": _split(splits, store, shares, seed),
            "base_accuracy": [asdict(one) for one in base_accuracy(store.records)],
            "shown_image": store.setup.image,
            "blank_run": None if blank is None else blank.fingerprint,
            **probes_tried,
            **risks_tried,
            "question_kinds": {"missing": told.reason}
            if isinstance(told, Missing)
            else _kinds_tried(store, columns, select, told),
            **_risk_reference(measure_risk(columns, stage_one)[select], store.groups[select]),
        },
        kinds=kinds if "question_kind" in stage_one.required else None,
    )
    return write_bundle(bundle, out)


def _train_probe(
    store: Store, fit: NDArray[np.bool_], select: NDArray[np.bool_], blank: Store | None, seed: int
) -> tuple[LinearProbe, dict[str, Any]]:
    """Choose the probe; return it and what was tried.

    Only answers that have every readout count, so that candidates meet the same answers.
    """
    _, rows = read_places(store)
    fit, select = fit & rows, select & rows
    candidates = fit_layers(store, fit, select)
    chosen, models = choose_probe(store, candidates, fit, select, blank=blank, seed=seed)
    hidden = store.hidden((chosen.layer, chosen.position))
    tried = {
        "probe_candidates": [asdict(candidate.entry) for candidate in candidates],
        "probe_models": [_plain(model) for model in models],
    }
    return with_components(chosen, hidden[fit]), tried


def _train_kinds(store: Store, fit: NDArray[np.bool_]) -> KindModel | Missing:
    """Fit what tells a question's kind from its words, unless the dataset has only one kind."""
    records = [store.records[row] for row in np.flatnonzero(fit)]
    return fit_kinds([one.question for one in records], [one.kind for one in records])


def _kinds_tried(
    store: Store, columns: Columns, select: NDArray[np.bool_], kinds: KindModel
) -> dict[str, Any]:
    """Measure on the selection split how well kinds are told, and how well they predict errors."""
    features = tuple(f"{KIND}@{kind}" for kind in kinds.kinds)
    rows = select & columns.complete(features)
    told = np.column_stack([columns.values[name] for name in features])[rows].argmax(axis=1)
    named = np.array([record.kind for record in store.records])[rows]
    alone = out_of_fold_auroc(
        columns.take(features, rows), features, store.wrong[rows], store.groups[rows]
    )
    return {
        "kinds": list(kinds.kinds),
        "words": len(kinds.words),
        "told": float((np.array(kinds.kinds)[told] == named).sum() / select.sum()),
        "auroc_alone": alone,
    }


def _train_risks(
    store: Store,
    columns: Columns,
    select: NDArray[np.bool_],
    kinds: KindModel | None,
    seed: int,
) -> tuple[RiskModel, RiskModel | Missing, dict[str, Any]]:
    """Fit both stages; return them and what was tried.

    The second stage reads the first one's features and the samples' agreement with the answer.
    """
    features = CANDIDATES["probe_and_token_confidence"]
    names = () if kinds is None else kinds.kinds
    features = by_kind(features, names)
    rows = select & columns.complete(features)
    chosen, fusion = choose_fusion(
        columns.take(features, rows), store.wrong[rows], store.groups[rows], kinds=names, seed=seed
    )
    first, maps = fit_risk_model(
        columns.take(chosen, rows), chosen, store.wrong[rows], store.groups[rows], seed=seed
    )
    tried = {
        "fusion_candidates": [_plain(candidate) for candidate in fusion],
        "calibration_candidates": [_plain(one) for one in maps],
    }
    if store.setup.generation.samples == 0:
        return first, Missing("not_collected"), tried
    more = (*chosen, "agreement")
    rows = select & columns.complete(more)
    second, maps = fit_risk_model(
        columns.take(more, rows), more, store.wrong[rows], store.groups[rows], seed=seed
    )
    return first, second, {**tried, "second_calibration_candidates": [_plain(one) for one in maps]}


def _train_questions(
    store: Store, fit: NDArray[np.bool_], select: NDArray[np.bool_]
) -> QuestionModel:
    asked = [record.question for record in store.records]
    return fit_questions(
        [asked[row] for row in np.flatnonzero(fit)],
        [asked[row] for row in np.flatnonzero(select)],
        QUESTION_QUANTILE,
        distinct=len(set(map(collapse, asked))),
    )


def _policy(wanted: Policy, stage_one: RiskModel) -> Policy:
    return Policy(
        mode=wanted.mode,
        accept_below=wanted.accept_below,
        reject_above=wanted.reject_above,
        required=(*stage_one.required, "domain"),
        self_consistency=wanted.self_consistency,
    )


def _risk_reference(risk: FloatArray, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Make the histogram that a service's risks are compared with, where there is enough data.

    It comes from the selection split: the calibration split is for thresholds alone.
    """
    known = np.isfinite(risk)
    reference = RiskHistogram.of(risk[known], groups[known])
    return {} if isinstance(reference, Missing) else {"risk_reference": reference.to_dict()}


def _golden(store: Store, probe: LinearProbe, select: NDArray[np.bool_]) -> tuple[Golden, ...]:
    """Pick eight answers of the selection split by the hash of their id, one per image."""
    place = (probe.layer, probe.position)
    hidden = store.hidden(place)
    rows = sorted(
        np.flatnonzero(select & store.present(place)),
        key=lambda row: hashlib.sha256(store.records[row].id.encode()).hexdigest(),
    )
    chosen: dict[str, Golden] = {}
    for row in rows:
        record = store.records[row]
        if record.image_hash in chosen:
            continue
        image = load_image(Path(record.image_path))
        if image_hash(image) != record.image_hash:
            raise StoreError(f"{record.image_path}: changed since it was collected; collect again")
        query = Query(image, record.question, store.setup.generation.max_tokens)
        projected: FloatArray = probe.project(hidden[row])
        chosen[record.image_hash] = Golden(query, record.answer, {place: projected})
        if len(chosen) == GOLDEN:
            break
    return tuple(chosen.values())


def _split(
    splits: NDArray[np.str_], store: Store, shares: Mapping[SplitName, float], seed: int
) -> dict[str, Any]:
    counts = {name: int((splits == name).sum()) for name in SPLITS}
    return {"shares": dict(shares), "seed": seed, "answers": counts, "groups": groups_digest(store)}


def _plain(entry: ProbeModel | FusionCandidate | CalibrationCandidate) -> dict[str, Any]:
    """Return plain JSON: tuples become lists, a missing value becomes its reason."""
    return {
        name: list(value)
        if isinstance(value, tuple)
        else {"missing": value["reason"]}
        if isinstance(value, dict) and set(value) == {"reason"}
        else value
        for name, value in asdict(entry).items()
    }
