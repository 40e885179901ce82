"""Certifies a bundle: tests its promises on the ``calibrate`` split and writes it with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.data.store import Store
from probes.guarantee.betting import GroupedAnswers, bound_bet, error_interval, plan_ladder
from probes.guarantee.composed import modes_of, policy_risk, stage_risks
from probes.guarantee.learn_then_test import certify as certify_policy
from probes.guarantee.ledger import FIRST_SHARE, anchors
from probes.guarantee.slices import slice_groups, slice_names
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate, NoCertificate
from probes.model.folder import with_questions, write_bundle
from probes.model.slicing import Slicing
from probes.types import ConsistencyMode, FloatArray, Interval, QuestionMode

ALPHA = 0.10
DELTA = 0.05
VALID_DAYS = 365
Share = Callable[[Mapping[str, Any]], float]
"""The fraction of delta that a claim may spend: :meth:`probes.guarantee.ledger.Ledger.share`."""


def certify(
    store: Store,
    bundle: Bundle,
    out: Path,
    *,
    created: datetime,
    alpha: float = ALPHA,
    delta: float = DELTA,
    valid_days: int = VALID_DAYS,
    slicing: Slicing | None = None,
    also: Sequence[float] = (),
    most: int | None = None,
    share: Share | None = None,
    questions: QuestionMode | None = None,
) -> Bundle:
    """Test every claim, and write the bundle with its certificates to a new folder.

    Thresholds and bets are fixed on the selection split; the groups of the calibration split test
    them. Each self-consistency mode is another composed policy and gets its own certificate, as
    does each further alpha. All of them are one family that spends from one delta: each claim is
    tested at its ``share`` of it, that of ``alpha`` and the policy's own mode first, so that all
    hold together with confidence 1 - ``delta``. Certificates per slice split their claim's share
    evenly (Bonferroni).

    Args:
        alpha: the error rate whose certificates serve.
        created: now, with a time zone.
        slicing: certificates per slice too.
        also: further error rates to try for; they never serve.
        most: answers of a group that count; by default as
            :func:`~probes.guarantee.betting.plan_ladder` has it.
        share: of the ledger of tries on this data; None where nothing was tried on it before.
        questions: which questions are within the domain; by default as training chose. Another
            choice is another policy, so the bundle gets another id.

    Raises StoreError when the store is not the one that the bundle was trained on, or when tries
    cannot be counted, BundleError when it has no question side to choose for.
    """
    if questions is not None:
        bundle = with_questions(bundle, questions)
    splits = splits_of(store, bundle)
    select, calibrate = splits == "select", splits == "calibrate"
    names = None if slicing is None else slice_names(store.records, slicing)
    attempts: list[CertificateAttempt] = []
    stages = stage_risks(StoreView(store, bundle))
    share = fresh_shares() if share is None else share
    for target, mode in claims_of(bundle, alpha, also):
        claim = {
            "step": "certify", "bundle": bundle.id, "alpha": target, "delta": delta, "mode": mode,
            "slices_by": None if slicing is None else slicing.by, "most_per_group": most,
        }  # fmt: skip
        level = delta * share(claim)
        groups: list[tuple[str, ...] | None] = [None]
        if names is not None:
            growth = np.unique(store.groups[calibrate]).size / np.unique(store.groups[select]).size
            groups += slice_groups(names[select], store.groups[select], growth, target, level)
        risk = policy_risk(stages, bundle, mode)
        for group in groups:
            about = np.ones(len(store.records), dtype=bool)
            if names is not None and group is not None:
                about = np.isin(names, group)
            outcome = _attempt(
                store, bundle, risk, select & about, calibrate & about,
                mode=mode, alpha=target, delta=delta, level=level / len(groups), slices=group,
                most=most, created=created, valid_days=valid_days,
            )  # fmt: skip
            seen = {}
            if names is not None and isinstance(outcome, Certificate) and outcome.scope == "pooled":
                seen = _observed(store, risk, names, select, calibrate, outcome)
            attempts.append(CertificateAttempt(target, mode, outcome, group, seen))
    return write_bundle(
        replace(bundle, alpha=alpha, attempts=tuple(attempts), slicing=slicing, loosened_from=None),
        out,
    )


def claims_of(
    bundle: Bundle, alpha: float, also: Sequence[float] = ()
) -> list[tuple[float, ConsistencyMode]]:
    """Return every (alpha, mode) of one run, in the order in which they spend from delta."""
    own = bundle.policy.self_consistency
    modes = sorted(modes_of(bundle), key=lambda mode: mode != own)  # stable: the others as listed
    levels = [alpha, *sorted({*also} - {alpha}, reverse=True)]
    return [(level, mode) for level in levels for mode in modes]


def fresh_shares() -> Share:
    """Give the shares of claims on fresh data: 0.8, 0.1, 0.05, ...; together less than 1."""
    shares = (FIRST_SHARE if n == 0 else (1 - FIRST_SHARE) / 2**n for n in count())
    return lambda claim: next(shares)


def _observed(
    store: Store,
    risk: FloatArray,
    names: NDArray[np.str_],
    select: NDArray[np.bool_],
    calibrate: NDArray[np.bool_],
    certificate: Certificate,
) -> dict[str, Interval]:
    """Return each slice's error rate in calibration, for the slices that share a certificate."""
    seen: dict[str, Interval] = {}
    most = certificate.most_per_group
    for name in certificate.slices or ():
        (before, errors), (accepted, wrong) = (
            GroupedAnswers.of(
                risk[rows], store.wrong[rows], store.groups[rows], most=most, seed=0
            ).sums(certificate.threshold)
            for rows in (select & (names == name), calibrate & (names == name))
        )
        if accepted.sum() > 0:
            bet = bound_bet(before, errors, level=0.025, count=accepted.size, most=most)
            seen[name] = error_interval(accepted, wrong, bet=bet)
    return seen


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
    level: float,
    slices: tuple[str, ...] | None,
    most: int | None,
    created: datetime,
    valid_days: int,
) -> Certificate | NoCertificate:
    """Run one test: thresholds from the answers of ``ladder``, tested on those of ``tested``."""
    if slices is not None and not tested.any():
        return NoCertificate("too_few_answers", 0, 0, level=level, delta=delta)
    groups = store.groups[tested]
    return certify_policy(
        risk[tested],
        store.wrong[tested],
        groups,
        plan_ladder(
            risk[ladder],
            store.wrong[ladder],
            store.groups[ladder],
            alpha=alpha,
            level=level,
            count=np.unique(groups).size,
            most=most,
        ),
        alpha=alpha,
        delta=delta,
        level=level,
        self_consistency=mode,
        samples=0 if mode == "never" else bundle.generation.samples,
        bundle=bundle.id,
        model=bundle.model.revision,
        data=store.fingerprint,
        anchors=anchors((record.image_hash for record in store.records), bundle.model.revision),
        created=created,
        valid_days=valid_days,
        seed=int(bundle.training["split"]["seed"]),
        slices=slices,
    )
