"""Certifies a serving bundle anew, on answers that people judged.

The calibration split of training belongs to the time before; after a certificate is void, or has
ended, the answers given since are the evidence (docs/decisions/0006). Thresholds are fixed
beforehand as shares of the one that was in force, each tested at an equal share of the level
(:data:`SHARES`), so that the loosest that passes may be taken (Bonferroni): there is no second
split to find the start of a fixed sequence on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probes.errors import DataError
from probes.guarantee.betting import Ladder, blind_bet
from probes.guarantee.learn_then_test import certify
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate, NoCertificate
from probes.model.folder import write_bundle
from probes.types import FloatArray

SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Of the threshold that was in force, loose to strict."""


def certify_judged(
    bundle: Bundle,
    risk: FloatArray,
    wrong: NDArray[np.bool_],
    groups: NDArray[np.str_],
    *,
    limit: float,
    data: str,
    alpha: float,
    delta: float,
    created: datetime,
    valid_days: int,
    level: float | None = None,
    most: int = 1,
    weight: FloatArray | None = None,
    unit: Literal["group", "image"] = "group",
    seed: int = 0,
) -> Certificate | NoCertificate:
    """Test whether at most the share alpha of the answers accepted in mode ``never`` is wrong.

    The bet is the one for about one accepted answer per group: nothing is known of the spread
    before the labels are read.

    Args:
        risk: of answers that the policy accepts at ``limit``, each chosen without regard to its
            outcome, shape (n,).
        wrong: shape (n,); an answer that nobody judged counts as wrong.
        groups: of each answer, shape (n,): its image's hash, where nothing larger is known.
        unit: ``image`` where some of them are no more than that.
        limit: loosest threshold to test; those above were never accepted, so nothing is known.
        data: fingerprint of the answers.
        delta: of the promise. level: this claim's share of it; by default all.
        most: answers of a group that count: those of the certificate that was in force.
        weight: as :class:`~probes.guarantee.betting.GroupedAnswers` has it; None for equal chances.
        seed: picks the answers of large groups, and U.
        created: now, with a time zone.
    """
    level = delta if level is None else level
    each = level / len(SHARES)
    spread, largest = alpha * (1 - alpha), most * (1 - alpha)
    bet = blind_bet(spread, largest, level=each, count=np.unique(groups).size)
    tried = [
        certify(
            risk,
            wrong,
            groups,
            Ladder(np.array([share * limit]), np.array([bet]), most),
            alpha=alpha,
            delta=delta,
            level=each,
            self_consistency="never",
            samples=0,
            bundle=bundle.id,
            model=bundle.model.revision,
            data=data,
            created=created,
            valid_days=valid_days,
            seed=seed,
            weight=weight,
            unit=unit,
        )
        for share in SHARES
    ]
    passed = [outcome for outcome in tried if isinstance(outcome, Certificate)]
    return Certificate.sealed(**{**passed[0].to_dict(), "level": level}) if passed else tried[0]


def with_certificate(bundle: Bundle, certificate: Certificate | NoCertificate, out: Path) -> Bundle:
    """Write the bundle with only this certificate to a new folder. Raises DataError without one.

    The certificates of other modes belonged to the promise that was broken, and are left out. An
    alpha larger than before stays marked as such, however often it is certified again.
    """
    if isinstance(certificate, NoCertificate):
        raise DataError(
            f"no certificate: {certificate.told()} ({certificate.answers} answers); "
            "judge more of them, or train again"
        )
    before = [one for one in (bundle.alpha, bundle.loosened_from) if one is not None]
    looser = [one for one in before if one < certificate.alpha]
    attempt = CertificateAttempt(certificate.alpha, "never", certificate)
    return write_bundle(
        replace(
            bundle,
            alpha=certificate.alpha,
            attempts=(attempt,),
            loosened_from=min(looser, default=None),
        ),
        out,
    )
