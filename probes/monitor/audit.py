"""Draws the accepted answers that a person audits: a random share, by a keyed hash."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Audit:
    """Whether an accepted answer is audited, and how likely that was.

    Args:
        selected: a person must judge it.
        inclusion_probability: chance of being selected before the draw, 0 to 1. Keep it with the
            answer: :mod:`probes.monitor.error_rate` weighs by it.
        reference: the lowest rate that could have applied to the draw: what it is weighed by.
    """

    selected: bool
    inclusion_probability: float
    reference: float


def choose_audit(
    answer_id: str, rate: float, secret: bytes, reference: float | None = None
) -> Audit:
    """Draw one answer: HMAC-SHA256 of its id, read as a number in [0, 1), is below the rate.

    Every replica and every retry draws the same id alike. Without the secret nobody
    can tell the audited answers from the others. A higher rate keeps those already selected.

    Args:
        answer_id: given by the service, never by the client, and unique.
        rate: share to audit, 0 to 1. It may depend on risk or time, not on the outcome.
        secret: at least 16 bytes, the same in all replicas.
        reference: lowest rate that could have applied, at most ``rate``; by default the rate.

    Raises ValueError when the rate or the secret does not fit.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: {rate} must lie between 0 and 1")
    if len(secret) < 16:
        raise ValueError(f"secret: {len(secret)} bytes; give at least 16 random ones")
    digest = hmac.digest(secret, b"audit\0" + answer_id.encode(), hashlib.sha256)
    uniform = (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53
    return Audit(uniform < rate, rate, rate if reference is None else reference)
