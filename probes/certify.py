"""A bundle to the same bundle with certificates, tested on the ``calibrate`` split."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from probes.bundle import Bundle, CertificateAttempt
from probes.guarantee import certify as certify_policy
from probes.guarantee import threshold_ladder
from probes.measured import measure_columns, measure_distance, measure_risk
from probes.policy import composed_risk
from probes.store import Store
from probes.train import splits_of
from probes.types import CONSISTENCY_MODES, ConsistencyMode, FloatArray, Missing

ALPHAS = (0.10, 0.05)
DELTA = 0.05
VALID_DAYS = 365


def certify(
    store: Store,
    bundle: Bundle,
    out: Path,
    *,
    created: datetime,
    alpha: float = ALPHAS[0],
    delta: float = DELTA,
    valid_days: int = VALID_DAYS,
) -> Bundle:
    """Try for every certificate and write the bundle with them to a new folder.

    Thresholds are fixed on the selection split; one answer per image of the calibration split tests
    them. Each self-consistency mode is another composed policy and gets its own certificate, at
    :data:`ALPHAS` and ``alpha``.

    Args:
        alpha: the error rate whose certificates serve.
        created: now, with a time zone.

    Raises StoreError when the store is not the one that the bundle was trained on.
    """
    attempts = [
        _attempt(store, bundle, mode, level, delta, created, valid_days)
        for level in sorted({*ALPHAS, alpha}, reverse=True)
        for mode in CONSISTENCY_MODES
        if mode == "never" or not isinstance(bundle.stage_two, Missing)
    ]
    return replace(bundle, alpha=alpha, attempts=tuple(attempts)).save(out)


def policy_risk(store: Store, bundle: Bundle, mode: ConsistencyMode) -> FloatArray:
    """The least threshold at which the bundle's whole policy accepts each answer, (n,)."""
    measured = measure_columns(store, bundle.probe)
    distance, present = measure_distance(store, bundle.probe, bundle.domain)
    second = bundle.stage_two
    return composed_risk(
        measure_risk(measured, bundle.stage_one),
        None if isinstance(second, Missing) else measure_risk(measured, second),
        present & (distance <= bundle.domain.limit),
        mode,
        bundle.policy.reject_above,
    )


def _attempt(
    store: Store,
    bundle: Bundle,
    mode: ConsistencyMode,
    alpha: float,
    delta: float,
    created: datetime,
    valid_days: int,
) -> CertificateAttempt:
    splits = splits_of(store, bundle)
    select, calibrate = splits == "select", splits == "calibrate"
    risk = policy_risk(store, bundle, mode)
    outcome = certify_policy(
        risk[calibrate],
        store.wrong[calibrate],
        store.groups[calibrate],
        threshold_ladder(risk[select], store.wrong[select], alpha),
        alpha=alpha,
        delta=delta,
        self_consistency=mode,
        samples=0 if mode == "never" else bundle.generation.samples,
        bundle=bundle.id,
        model=bundle.model.revision,
        data=store.fingerprint,
        created=created,
        valid_days=valid_days,
        seed=int(bundle.training["split"]["seed"]),
    )
    return CertificateAttempt(alpha, mode, outcome)
