"""A new certificate for a bundle that serves, from answers that people judged.

The calibration split of training belongs to the time before; after a certificate is void, or has
ended, the answers given since are the evidence (docs/decisions/0006). Thresholds are fixed
beforehand as shares of the one that was in force, each tested at delta / :data:`SHARES`' number, so
that the loosest that passes may be taken (Bonferroni): there is no second split to find the start
of a fixed sequence on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.bundle import Bundle, CertificateAttempt
from probes.errors import DataError
from probes.guarantee import Certificate, NoCertificate, certify
from probes.types import FloatArray

SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Of the threshold that was in force, loose to strict."""


def certify_judged(
    bundle: Bundle,
    risk: FloatArray,
    wrong: NDArray[np.bool_],
    images: NDArray[np.str_],
    *,
    limit: float,
    data: str,
    alpha: float,
    delta: float,
    created: datetime,
    valid_days: int,
) -> Certificate | NoCertificate:
    """Test whether accepted answers of mode ``never`` are wrong at most at the rate alpha.

    Args:
        risk: of answers that the policy accepts at ``limit``, each with the same chance to be here
            whatever its outcome, shape (n,). One random answer per image is used.
        wrong: shape (n,); who is not judged counts as wrong.
        images: hash of each answer's image, shape (n,).
        limit: loosest threshold to test; those above were never accepted, so nothing is known.
        data: fingerprint of the answers.
        created: now, with a time zone.
    """
    tried = [
        certify(
            risk,
            wrong,
            images,
            np.array([share * limit]),
            alpha=alpha,
            delta=delta / len(SHARES),
            self_consistency="never",
            samples=0,
            bundle=bundle.id,
            model=bundle.model.revision,
            data=data,
            created=created,
            valid_days=valid_days,
        )
        for share in SHARES
    ]
    passed = [outcome for outcome in tried if isinstance(outcome, Certificate)]
    return Certificate.sealed(**{**passed[0].to_dict(), "delta": delta}) if passed else tried[0]


def with_certificate(bundle: Bundle, certificate: Certificate | NoCertificate, out: Path) -> Bundle:
    """Write the bundle with this certificate alone to a new folder. Raises DataError without one.

    The certificates of other modes belonged to the promise that was broken, and are left out.
    """
    if isinstance(certificate, NoCertificate):
        raise DataError(
            f"no certificate: {certificate.reason.replace('_', ' ')} "
            f"({certificate.answers} answers, one per image); judge more of them, or train again"
        )
    attempt = CertificateAttempt(certificate.alpha, "never", certificate)
    return replace(bundle, alpha=certificate.alpha, attempts=(attempt,)).save(out)
