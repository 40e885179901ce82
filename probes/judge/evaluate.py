"""Evaluates a bundle on its store: judges every signal side by side on the test split.

Nothing is fitted to the test split. Intervals are 95 %, bootstrapped by image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.data.store import Store
from probes.errors import StoreError, TrainingError
from probes.guarantee.composed import modes_of, policy_risk, stage_risks
from probes.guarantee.ledger import Try, told
from probes.guarantee.slices import slice_names
from probes.judge.accepted import accepted_table
from probes.judge.controls import CONTROLS, control_scores
from probes.judge.cross_domain import cross_domain, kind_left_out
from probes.judge.curves import histogram, reliability, right_and_wrong, risk_coverage
from probes.judge.effective_reliability import Thresholds, reliability_table, reliability_thresholds
from probes.judge.examples import pick_examples
from probes.judge.per_layer import attention_layers, probe_layers
from probes.judge.side_by_side import RISKS, Judged, accuracy_table, error_rate, judge, signal_table
from probes.judge.warnings import find_warnings
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.stats import metrics
from probes.stats.bootstrap import cluster_bootstrap, paired_difference
from probes.stats.wilson import wilson_share
from probes.types import ConsistencyMode, FloatArray, Interval, Missing

EVALUATION = "evaluation.json"
RESAMPLES = 1000
ATTENTION_PLOTTED = ("attention_spatial_entropy", "attention_top30_mass")


def evaluate(
    store: Store,
    bundle: Bundle,
    out: Path,
    *,
    domains: Mapping[str, Store] | None = None,
    blank: Store | None = None,
    tries: Sequence[Try] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Judge a bundle and write ``evaluation.json`` and ``manifest.json`` to a new folder.

    Args:
        domains: other stores of the same model, by name: accuracy and risk away from home.
        blank: run of the same questions about blank images, for the control that sees no image.
        tries: claims tested on this data, by the ledger; None where nobody looked.

    Returns what was written. Raises StoreError for a store that does not belong to the bundle or a
    folder that exists, TrainingError when the test split holds too little.
    """
    if out.exists():
        raise StoreError(f"{out}: exists already; every step writes a new folder")
    splits = splits_of(store, bundle)
    test = splits == "test"
    if not 0 < store.wrong[test].sum() < test.sum():
        raise TrainingError("the test split needs right and wrong answers; collect more")
    view = StoreView(store, bundle)
    judged = judge(view, test)
    risks = policy_risks(view)
    accepted = accepted_by_gate(bundle, risks)[judged.rows]
    thresholds = reliability_thresholds(store, judge(view, splits == "calibrate"))
    # What reads the probe's own hidden states comes before the other layers.
    control_table = controls(view, splits, judged, resamples, blank)
    left_out = kind_left_out(view, splits, resamples)
    away = {
        name: judge_away(view, StoreView(other, bundle), thresholds, resamples)
        for name, other in (domains or {}).items()
    }
    evaluation = {
        "format": 1,
        "bundle": bundle.id,
        "model": asdict(bundle.model),
        "generation": asdict(bundle.generation),
        "probe": {"layer": bundle.probe.layer, "position": bundle.probe.position},
        "risk_features": list(bundle.stage_one.features),
        "training": dict(bundle.training),
        "fingerprints": {
            "store": store.fingerprint,
            "dataset": store.setup.dataset,
            "blank": None if blank is None else blank.fingerprint,
            "domains": {name: other.fingerprint for name, other in (domains or {}).items()},
        },
        "test": {
            "answers": int(test.sum()),
            "images": len({store.records[row].image_hash for row in np.flatnonzero(test)}),
            "groups": int(np.unique(store.groups[test]).size),
            "judged": int(judged.rows.sum()),
            "dropped": judged.dropped,
        },
        "likeness": store.grouping.likeness(),
        "accuracy": accuracy_table(store, test, resamples),
        "signals": judge_signals(store, judged, thresholds, resamples),
        "missing_signals": dict(judged.missing),
        "probe_per_layer": probe_layers(view, splits, resamples),
        "attention_per_layer": attention_layers(store, judged.rows, resamples),
        "controls": control_table,
        "kind_left_out": left_out,
        "cross_domain": {name: crossed for name, (crossed, _) in away.items()},
        "certificates": certificate_table(store, bundle, test, risks),
        "accepted": accepted_table(store, bundle, test, risks),
        "serving_alpha": bundle.alpha,
        "tries": None if tries is None else told(tries),
        "out_of_domain": out_of_domain(view, test, resamples),
        "domains": {name: table for name, (_, table) in away.items()},
        "curves": curve_data(store, judged, accepted),
        "examples": pick_examples(store, judged, accepted),
    }
    return write_evaluation({**evaluation, "flags": find_warnings(evaluation)}, out)


def write_evaluation(evaluation: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write an evaluation and its manifest; intervals and missing values become plain JSON."""
    text = json.dumps(evaluation, indent=1, default=_plain, allow_nan=False) + "\n"
    out.mkdir(parents=True)
    (out / EVALUATION).write_text(text, encoding="utf-8")
    manifest = {
        "step": "evaluate",
        "inputs": {"bundle": evaluation["bundle"], **evaluation["fingerprints"]},
        "outputs": {EVALUATION: hashlib.sha256(text.encode()).hexdigest()},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    plain: dict[str, Any] = json.loads(text)
    return plain


def controls(
    view: StoreView,
    splits: NDArray[np.str_],
    judged: Judged,
    resamples: int,
    blank: Store | None,
) -> dict[str, Any]:
    """Compute every control's AUROC on the test split, and how far probe and risk are above it."""
    store, bundle = view.store, view.bundle
    wrong, groups = store.wrong[judged.rows], store.groups[judged.rows]
    strength = bundle.training["probe_candidates"][0]["regularisation"]
    seed = int(bundle.training["split"]["seed"])
    scores = control_scores(view, strength, splits == "fit", judged.rows, seed, blank)
    table: dict[str, Any] = {}
    for name, score in scores.items():
        row: dict[str, Any] = {"auroc": score, "probe_above": score, "risk_above": score}
        if not isinstance(score, Missing):
            found = cluster_bootstrap(
                {"auroc": metrics.auroc}, {name: score}, wrong, groups, resamples
            )
            row = dict(found[name])
            for key, signal in (("probe_above", "hidden_state_probe"), ("risk_above", "risk")):
                row[key] = paired_difference(
                    metrics.auroc, judged.scores[signal], score, wrong, groups, resamples
                )
        table[name] = {"what": CONTROLS[name], **row}
    return table


def policy_risks(view: StoreView) -> dict[ConsistencyMode, FloatArray]:
    """Return the risk by which the whole policy accepts, (n,), per self-consistency mode."""
    stages = stage_risks(view)
    return {mode: policy_risk(stages, view.bundle, mode) for mode in modes_of(view.bundle)}


def certificate_table(
    store: Store,
    bundle: Bundle,
    test: NDArray[np.bool_],
    risks: Mapping[ConsistencyMode, FloatArray],
) -> list[dict[str, Any]]:
    """Return every attempt, and what its threshold does on the test split."""
    rows = []
    for attempt in bundle.attempts:
        row: dict[str, Any] = {"alpha": attempt.alpha, "self_consistency": attempt.self_consistency}
        about = np.ones(int(test.sum()), dtype=bool)
        if attempt.slices is not None and bundle.slicing is not None:
            row["slices"] = list(attempt.slices)
            about = np.isin(slice_names(store.records, bundle.slicing)[test], attempt.slices)
        if isinstance(attempt.outcome, Certificate):
            accepted = about & (risks[attempt.self_consistency][test] <= attempt.outcome.threshold)
            row["certificate"] = attempt.outcome.to_dict()
            row["test"] = {
                "accepted": int(accepted.sum()),
                "wrong": int(store.wrong[test][accepted].sum()),
                "coverage": float(accepted.sum() / max(1, about.sum())),
                "error": wilson_share(store.wrong[test][accepted], store.groups[test][accepted]),
            }
        else:
            row["none"] = asdict(attempt.outcome)
        rows.append(row)
    return rows


def out_of_domain(view: StoreView, rows: NDArray[np.bool_], resamples: int) -> dict[str, Any]:
    """Compute the share of answers out of the domain of validity."""
    image, question = view.inside
    outside = ~(image & question)[rows]
    share = cluster_bootstrap(
        {"share": error_rate},
        {"": np.zeros(outside.size)},
        outside,
        view.store.groups[rows],
        resamples=resamples,
    )
    return {
        "limit": view.bundle.domain.limit,
        "answers": int(outside.size),
        "outside_by_question": float((~question[rows]).mean()),
        **share[""],
    }


def judge_signals(
    store: Store, judged: Judged, thresholds: Thresholds, resamples: int
) -> dict[str, Any]:
    """Compute every metric of every signal."""
    phi = reliability_table(store, judged, thresholds, resamples)
    table = signal_table(store, judged, resamples)
    return {name: {**row, **phi.get(name, {})} for name, row in table.items()}


def judge_away(
    home: StoreView, other: StoreView, thresholds: Thresholds, resamples: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Judge the probe across both domains, and the other domain by itself."""
    return cross_domain(home, other, resamples), judge_domain(other, thresholds, resamples)


def judge_domain(view: StoreView, thresholds: Thresholds, resamples: int) -> dict[str, Any]:
    """Judge another store with the same bundle: accuracy, signals, the share out of domain."""
    store, bundle = view.store, view.bundle
    if store.setup.model != bundle.model:
        raise StoreError("domain: was collected with another model; collect it with the bundle's")
    rows = np.ones(len(store.records), dtype=bool)
    judged = judge(view, rows)
    return {
        "answers": len(store.records),
        "images": int(np.unique(store.groups).size),
        "accuracy": accuracy_table(store, rows, resamples),
        "signals": judge_signals(store, judged, thresholds, resamples),
        "out_of_domain": out_of_domain(view, rows, resamples),
    }


def accepted_by_gate(
    bundle: Bundle, risks: Mapping[ConsistencyMode, FloatArray]
) -> NDArray[np.bool_]:
    """Return which answers the certificate without self-consistency accepts, (n,)."""
    served = bundle.certificates.get("never")
    return np.asarray(risks["never"] <= (served.threshold if served else -np.inf))


def curve_data(store: Store, judged: Judged, accepted: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the data of the plots, on the test split."""
    wrong = store.wrong[judged.rows]
    risk = judged.scores["risk"]
    return {
        "risk_coverage": {
            name: risk_coverage(score, wrong) for name, score in judged.scores.items()
        },
        "reliability": {
            name: reliability(judged.scores[name], wrong) for name in RISKS if name in judged.scores
        },
        "risk_histogram": {
            "accepted": histogram(risk[accepted]),
            "escalated": histogram(risk[~accepted]),
        },
        "attention": {
            name: right_and_wrong(judged.scores[name], wrong)
            for name in ATTENTION_PLOTTED
            if name in judged.scores
        },
    }


def _plain(value: object) -> Any:
    if isinstance(value, Interval):
        return asdict(value)
    if isinstance(value, Missing):
        return {"missing": value.reason}
    raise TypeError(f"{type(value).__name__} does not belong into an evaluation")
