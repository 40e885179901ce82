"""Judged answers in the records -> a certificate (docs/decisions/0006).

Two kinds of answers will do, for each is chosen without regard to how it turns out:

- random audits of answers that a certificate accepted;
- answers while the certificate was void: all of them go to people.

Only self-consistency ``never``: in the other modes how many answers were sampled hung on the
threshold of that time. An answer that nobody judged counts as wrong. Where the chances are unlike,
an answer weighs the smallest of them over its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from probes.bundle import Bundle
from probes.errors import DataError
from probes.types import FloatArray, Missing
from service.records.answer import AnswerRecord
from service.records.listing import Filter
from service.records.store import RecordStore
from service.records.words import judge


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Answers that the policy accepts at ``limit``, as columns of length n.

    Args:
        risk: at most ``limit``.
        wrong: or not judged.
        images: hash of each answer's image.
        weight: smallest chance of the window over the answer's own, above 0 and at most 1.
        limit: loosest threshold that they say something about.
        unjudged: how many of them nobody judged.
        fingerprint: of the answers and what was said of them.
    """

    risk: FloatArray
    wrong: NDArray[np.bool_]
    images: NDArray[np.str_]
    weight: FloatArray
    limit: float
    unjudged: int
    fingerprint: str


def gather(store: RecordStore, bundle: Bundle, since: datetime, until: datetime) -> Evidence:
    """The evidence of a window. Waits for the database.

    Raises:
        DataError: there is none.
        RecordsUnavailable: the database does not work now.
    """
    before = bundle.certificates.get("never")
    if before is None:
        raise DataError(
            f"{bundle.id} has no certificate for self-consistency 'never', so the records hold no "
            "answers accepted under one; certify it from a run of collect"
        )
    if bundle.slicing is not None:
        raise DataError(
            f"{bundle.id} has certificates per slice, which the records cannot renew; certify it "
            "from a run of collect"
        )
    limit = before.threshold
    rows: list[tuple[str, float, str, bool | Missing, float]] = []
    for record, outcome in store.judged(Filter(since=since, until=until)):
        chance = _chance(record, bundle)
        if chance is None or isinstance(record.risk, Missing) or record.risk > before.threshold:
            continue
        if record.audit and record.accept_below is not None:
            limit = min(limit, record.accept_below)
        wrong = Missing("not_judged") if outcome is None else judge(record.answer, outcome)
        rows.append((record.id, record.risk, record.image_sha256, wrong, chance))
    rows = sorted(row for row in rows if row[1] <= limit)
    if not rows:
        raise DataError(
            "the window holds no audited answers of this bundle, and none while its certificate "
            "was void; choose another window"
        )
    said = "".join(f"{name} {risk!r} {image} {wrong}\n" for name, risk, image, wrong, _ in rows)
    chances = np.array([row[4] for row in rows], dtype=np.float64)
    return Evidence(
        risk=np.array([row[1] for row in rows], dtype=np.float64),
        wrong=np.array([row[3] is not False for row in rows], dtype=bool),
        images=np.array([row[2] for row in rows], dtype=np.str_),
        weight=chances.min() / chances,
        limit=limit,
        unjudged=sum(isinstance(row[3], Missing) for row in rows),
        fingerprint="records-" + hashlib.sha256(said.encode()).hexdigest()[:16],
    )


def _chance(record: AnswerRecord, bundle: Bundle) -> float | None:
    """With what chance an answer came to be judged; None where the outcome may have decided."""
    if record.bundle != bundle.id or record.self_consistency != "never":
        return None
    if record.audit and record.certificate is not None:
        return record.audit_probability
    inside = record.signals.get("domain", {}).get("inside", False)
    rejected = record.reject_above is not None and not isinstance(record.risk, Missing)
    rejected = rejected and record.risk > record.reject_above  # type: ignore[operator]
    if record.reason == "certificate_void" and inside and not rejected:
        return 1.0
    return None


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be promised.

    Args:
        alpha, delta: as the certificate has them.
        most: answers of an image that count.
    """

    alpha: float
    delta: float
    most: int


def terms(bundle: Bundle, alpha: float | None, most: int | None, *, loosen: bool) -> Terms:
    """The bundle's own terms, or others that were asked for. Call it after :func:`gather`.

    Raises DataError where a larger alpha is asked for without ``loosen``.
    """
    before = bundle.certificates["never"]
    if alpha is not None and alpha > before.alpha and not loosen:
        raise DataError(
            f"alpha: {alpha:g} promises less than the bundle's {before.alpha:g}; leave it out, or "
            "say --loosen, which every later reload and GET /v1/policy tell"
        )
    return Terms(
        before.alpha if alpha is None else alpha,
        before.delta,
        before.most_per_group if most is None else most,
    )
