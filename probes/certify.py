"""A bundle to the same bundle with certificates, tested on the ``calibrate`` split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.bundle import Bundle, CertificateAttempt
from probes.guarantee import Certificate, NoCertificate, threshold_ladder
from probes.guarantee import certify as certify_policy
from probes.measured import measure_columns, measure_inside, measure_proper, measure_risk
from probes.policy import composed_risk
from probes.signals.question import QuestionMode
from probes.slices import Slicing, slice_groups
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
    slicing: Slicing | None = None,
    questions: QuestionMode | None = None,
) -> Bundle:
    """Try for every certificate and write the bundle with them to a new folder.

    Thresholds are fixed on the selection split; one answer per image of the calibration split tests
    them. Each self-consistency mode is another composed policy and gets its own certificate, at
    :data:`ALPHAS` and ``alpha``. Of the certificates of one mode and alpha (all slices together,
    and each group of :func:`slice_groups`) each is tested at an equal share of ``delta``, so that
    all of them hold together with confidence 1 - ``delta`` (Bonferroni).

    Args:
        alpha: the error rate whose certificates serve.
        created: now, with a time zone.
        slicing: certificates per slice too.
        questions: which questions are within the domain; by default as training chose. Another
            choice is another policy, so the bundle gets another id.

    Raises StoreError when the store is not the one that the bundle was trained on, BundleError when
    it has no question side to choose for.
    """
    if questions is not None:
        bundle = bundle.with_questions(questions)
    splits = splits_of(store, bundle)
    select, calibrate = splits == "select", splits == "calibrate"
    names = None if slicing is None else slicing.names(store.records)
    attempts: list[CertificateAttempt] = []
    stages = stage_risks(store, bundle)
    risks = {mode: policy_risk(stages, bundle, mode) for mode in modes_of(bundle)}
    for level in sorted({*ALPHAS, alpha}, reverse=True):
        groups: list[tuple[str, ...] | None] = [None]
        if names is not None:
            shares = bundle.training["split"]["shares"]
            growth = shares["calibrate"] / shares["select"]
            groups += slice_groups(names[select], store.groups[select], growth, level, delta)
        for mode in risks:
            for group in groups:
                about = np.ones(len(store.records), dtype=bool)
                if names is not None and group is not None:
                    about = np.isin(names, group)
                outcome = _attempt(
                    store, bundle, risks[mode], select & about, calibrate & about,
                    mode=mode, alpha=level, delta=delta / len(groups), slices=group,
                    created=created, valid_days=valid_days,
                )  # fmt: skip
                attempts.append(CertificateAttempt(level, mode, outcome, group))
    return replace(bundle, alpha=alpha, attempts=tuple(attempts), slicing=slicing).save(out)


@dataclass(frozen=True, slots=True, eq=False)
class StageRisks:
    """What the policy is composed of, per answer.

    Args:
        first: risk without self-consistency, (n,); infinite where it is missing.
        second: risk with it, likewise, or None where it was not collected.
        inside: within both sides of the domain of validity, and no degenerate answer, (n,).
    """

    first: FloatArray
    second: FloatArray | None
    inside: NDArray[np.bool_]


def stage_risks(store: Store, bundle: Bundle) -> StageRisks:
    """Both stages' risks of every answer, and whether the policy looks at them at all."""
    measured = measure_columns(store, bundle.probe)
    image, question = measure_inside(store, bundle.probe, bundle.domain, bundle.questions)
    second = bundle.stage_two
    return StageRisks(
        measure_risk(measured, bundle.stage_one),
        None if isinstance(second, Missing) else measure_risk(measured, second),
        image & question & measure_proper(store),
    )


def modes_of(bundle: Bundle) -> tuple[ConsistencyMode, ...]:
    """The self-consistency modes that the bundle can serve."""
    return CONSISTENCY_MODES if not isinstance(bundle.stage_two, Missing) else ("never",)


def policy_risk(risks: StageRisks, bundle: Bundle, mode: ConsistencyMode) -> FloatArray:
    """The least threshold at which the bundle's whole policy accepts each answer, (n,)."""
    return composed_risk(risks.first, risks.second, risks.inside, mode, bundle.policy.reject_above)


def _attempt(
    store: Store,
    bundle: Bundle,
    risk: FloatArray,
    ladder: NDArray[np.bool_],
    tested: NDArray[np.bool_],
    *,
    mode: ConsistencyMode,
    alpha: float,
    delta: float,
    slices: tuple[str, ...] | None,
    created: datetime,
    valid_days: int,
) -> Certificate | NoCertificate:
    """One test: thresholds from the answers of ``ladder``, tested on those of ``tested``."""
    if slices is not None and not tested.any():
        return NoCertificate("too_few_answers", 0)
    return certify_policy(
        risk[tested],
        store.wrong[tested],
        store.groups[tested],
        threshold_ladder(risk[ladder], store.wrong[ladder], alpha),
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
        slices=slices,
    )
