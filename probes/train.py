"""A store to a bundle without certificates.

``fit`` gives the probe's weights; ``select`` gives layer, position, fusion, calibration map, the
domain's limit and the golden examples. ``calibrate`` and ``test`` are not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.bundle import Bundle, Golden
from probes.combine import FusionCandidate, RiskModel, choose_fusion, fit_risk_model
from probes.drift import RiskHistogram
from probes.errors import StoreError
from probes.images import load_image
from probes.layers import ProbeCandidate, fit_layers, read_places
from probes.measured import Measured, latent_states, measure_columns, measure_risk, states
from probes.policy import Policy
from probes.probe import LinearProbe, with_components
from probes.sampling import image_hash
from probes.signals.domain import DomainModel, fit_domain
from probes.splits import SPLITS, SplitName, split_by_image
from probes.store import Store
from probes.types import FloatArray, Missing, Query

SHARES: Mapping[SplitName, float] = {"fit": 0.35, "select": 0.15, "calibrate": 0.25, "test": 0.25}
DOMAIN_QUANTILE = 0.95
GOLDEN = 8


def train(
    store: Store,
    out: Path,
    *,
    seed: int = 0,
    shares: Mapping[SplitName, float] = SHARES,
    policy: Policy | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Train a gate and write its bundle to a new folder.

    Args:
        seed: of the split and the bootstrap; the same store and seed give the same bundle id.
        shares: of the images per split.
        policy: what is to be certified; its required signals are set to those the risk reads.
        progress: called with the name of each step as it begins.

    Raises TrainingError when a split holds too little, StoreError when a golden example's image is
    gone, BundleError when the folder exists.
    """
    say = progress or (lambda step: None)
    splits = split_by_image([record.image_hash for record in store.records], shares, seed)
    fit, select = splits == "fit", splits == "select"
    say("probe per layer and position")
    probe, candidates = _train_probe(store, fit, select)
    measured = measure_columns(store, probe)
    say("fusion and calibration")
    stage_one, fusion = _train_fusion(store, measured, select, seed)
    stage_two = _train_second_stage(store, measured, select, stage_one)
    say("domain of validity")
    domain = _train_domain(store, probe, select)
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
        policy=_policy(policy or Policy(), stage_one),
        alpha=None,
        attempts=(),
        golden=_golden(store, probe, select),
        data=store.fingerprint,
        training={
            **_training(splits, shares, seed, candidates, fusion),
            **_risk_reference(measure_risk(measured, stage_one)[select]),
        },
    )
    return bundle.save(out)


def splits_of(store: Store, bundle: Bundle) -> NDArray[np.str_]:
    """The split of every answer, as at training. Raises StoreError for another store."""
    if store.fingerprint != bundle.data:
        raise StoreError(
            f"store: {store.fingerprint[:12]} is not {bundle.data[:12]}, which the bundle was "
            "trained on; give that one"
        )
    split = bundle.training["split"]
    hashes = [record.image_hash for record in store.records]
    return split_by_image(hashes, split["shares"], split["seed"])


def _train_probe(
    store: Store, fit: NDArray[np.bool_], select: NDArray[np.bool_]
) -> tuple[LinearProbe, tuple[ProbeCandidate, ...]]:
    """Only answers that have every readout count, so that candidates meet the same answers."""
    _, rows = read_places(store)
    candidates = fit_layers(store, fit & rows, select & rows)
    best = candidates[0].probe
    hidden, _ = states(store, (best.layer, best.position))
    probe = with_components(best, hidden[fit & rows])
    return probe, tuple(candidate.entry for candidate in candidates)


def _train_fusion(
    store: Store, measured: Measured, select: NDArray[np.bool_], seed: int
) -> tuple[RiskModel, tuple[FusionCandidate, ...]]:
    features = ("probe_logit", "mean_logprob", "first_token_entropy", "margin")
    rows = select & measured.complete(features)
    return choose_fusion(
        measured.take(features, rows), store.wrong[rows], store.groups[rows], seed=seed
    )


def _train_second_stage(
    store: Store, measured: Measured, select: NDArray[np.bool_], first: RiskModel
) -> RiskModel | Missing:
    """The first stage's features and the samples' agreement with the answer."""
    if store.setup.generation.samples == 0:
        return Missing("not_collected")
    features = (*first.features, "agreement")
    rows = select & measured.complete(features)
    return fit_risk_model(
        measured.take(features, rows), features, store.wrong[rows], store.groups[rows]
    )


def _train_domain(store: Store, probe: LinearProbe, select: NDArray[np.bool_]) -> DomainModel:
    latent, present = latent_states(store, probe)
    rows = select & present
    return fit_domain(latent[rows], store.arrays.image_features[rows], DOMAIN_QUANTILE)


def _policy(wanted: Policy, stage_one: RiskModel) -> Policy:
    return Policy(
        mode=wanted.mode,
        accept_below=wanted.accept_below,
        reject_above=wanted.reject_above,
        required=(*stage_one.required, "domain"),
        self_consistency=wanted.self_consistency,
    )


def _risk_reference(risk: FloatArray) -> dict[str, Any]:
    """The histogram that a service's risks are compared with, unless it cannot be made.

    Of the selection split: the calibration split is for thresholds alone.
    """
    reference = RiskHistogram.of(risk[np.isfinite(risk)])
    return {} if isinstance(reference, Missing) else {"risk_reference": reference.to_dict()}


def _golden(store: Store, probe: LinearProbe, select: NDArray[np.bool_]) -> tuple[Golden, ...]:
    """Eight answers of the selection split, picked by the hash of their id, one per image."""
    hidden, present = states(store, (probe.layer, probe.position))
    rows = sorted(
        np.flatnonzero(select & present),
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
        chosen[record.image_hash] = Golden(
            query, record.answer, {(probe.layer, probe.position): projected}
        )
        if len(chosen) == GOLDEN:
            break
    return tuple(chosen.values())


def _training(
    splits: NDArray[np.str_],
    shares: Mapping[SplitName, float],
    seed: int,
    candidates: tuple[ProbeCandidate, ...],
    fusion: tuple[FusionCandidate, ...],
) -> dict[str, Any]:
    counts = {name: int((splits == name).sum()) for name in SPLITS}
    return {
        "split": {"shares": dict(shares), "seed": seed, "answers": counts},
        "probe_candidates": [asdict(candidate) for candidate in candidates],
        "fusion_candidates": [
            {**asdict(candidate), "features": list(candidate.features)} for candidate in fusion
        ],
    }
