"""Judged answers in the records -> a certificate (docs/decisions/0006).

Two kinds of answers will do, for each is chosen without regard to how it turns out:

- random audits of answers that a certificate accepted;
- answers while the certificate was void: all of them go to people.

Only self-consistency ``never``: in the other modes how many answers were sampled hung on the
threshold of that time. An answer that nobody judged counts as wrong. Where the chances are unlike,
an answer weighs the smallest of them over its own.

Audits that voided a certificate of the bundle stay out, and all before them: what made somebody
look is no fair part of the sample, and a good past before it would average it away. So do those
that would have voided an earlier certificate, had its words come while it was served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probes.errors import DataError
from probes.model.bundle import Bundle
from probes.model.certificate import FROM_RECORDS
from probes.types import FloatArray, Missing
from service.gate.audit_replay import grouped, newest_carrier, replay, with_overdue
from service.gate.promise import Promise
from service.records.answer import AnswerRecord
from service.records.audits import AuditTrail, Claim
from service.records.certificates import audited_under, loaded
from service.records.listing import Filter
from service.records.store import RecordStore
from service.records.voids import voids_of
from service.records.words import judge

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Answers that the policy accepts at ``limit``, as columns of length n.

    Args:
        risk: at most ``limit``.
        wrong: or not judged.
        groups: answers of one image, or of one group that the caller named, have the same.
        unit: ``group`` where every answer names one.
        weight: smallest chance of the window over the answer's own, above 0 and at most 1.
        limit: loosest threshold that they say something about.
        unjudged: how many of them nobody judged.
        since: begin of the window: as asked for, or behind the audits that voided a certificate.
        fingerprint: of the answers and what was said of them.
    """

    risk: FloatArray
    wrong: NDArray[np.bool_]
    groups: NDArray[np.str_]
    unit: Literal["group", "image"]
    weight: FloatArray
    limit: float
    unjudged: int
    since: datetime
    fingerprint: str


def gather(
    store: RecordStore,
    bundle: Bundle,
    since: datetime,
    until: datetime,
    *,
    deadline_days: float = 0,
    confirmed: bool = False,
) -> Evidence:
    """The evidence of a window. Waits for the database.

    What the database took before the newest audit that a void in force rests on stays out, whatever
    was asked for and whatever a replica's clock said; what the audits show and no service has
    written down yet is written down first.

    Args:
        since, until: of the window.
        deadline_days, confirmed: of the audits, as :class:`~service.gate.promise.Promise` has them.

    Raises:
        DataError: there is none, or a void waits for the word of a second reviewer.
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
    unspent = _unspent(store, bundle, deadline_days, confirmed=confirmed)
    begin = max(since, unspent)
    limit = before.threshold
    rows: list[_Row] = []
    for record, outcome in store.judged(Filter(since, until, arrived_since=unspent)):
        chance = _chance(record, bundle)
        if chance is None or isinstance(record.risk, Missing) or record.risk > before.threshold:
            continue
        if record.audit and record.accept_below is not None:
            limit = min(limit, record.accept_below)
        wrong = Missing("not_judged") if outcome is None else judge(record.answer, outcome)
        rows.append(_Row(record.id, record.risk, record.image_sha256, record.group, wrong, chance))
    rows = sorted((row for row in rows if row.risk <= limit), key=lambda row: row.id)
    if not rows:
        raise DataError(
            f"the window from {begin.isoformat()} on holds no audited answers of this bundle, and "
            "none while its certificate was void; choose another window"
        )
    groups = grouped((row.image, row.name) for row in rows)
    said = "".join(
        f"{row.id} {row.risk!r} {group} {row.wrong}\n"
        for row, group in zip(rows, groups, strict=True)
    )
    chances = np.array([row.chance for row in rows], dtype=np.float64)
    return Evidence(
        risk=np.array([row.risk for row in rows], dtype=np.float64),
        wrong=np.array([row.wrong is not False for row in rows], dtype=bool),
        groups=np.array(groups, dtype=np.str_),
        unit="image" if any(row.name is None for row in rows) else "group",
        weight=chances.min() / chances,
        limit=limit,
        unjudged=sum(isinstance(row.wrong, Missing) for row in rows),
        since=begin,
        fingerprint=FROM_RECORDS + hashlib.sha256(said.encode()).hexdigest()[:16],
    )


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    risk: float
    image: str
    name: str | None
    wrong: bool | Missing
    chance: float


def _unspent(
    store: RecordStore, bundle: Bundle, deadline_days: float, *, confirmed: bool
) -> datetime:
    """The first moment that no void in force of the bundle's certificates rests on."""
    promise = Promise(
        store, bundle, deadline_days=deadline_days, confirmed=confirmed, mode="certified"
    )
    promise.read()
    if promise.state == "suspected":
        raise DataError(
            f"single words void the certificate of {bundle.id}, and no second reviewer has "
            "confirmed them; judge what GET /v1/answers?second_word=true lists first"
        )
    spent = max((void.until for void in voids_of(store, bundle.id)), default=NEVER)
    unread = _unread(store, bundle, promise.tested, timedelta(days=deadline_days) or None)
    return max(spent, unread) + timedelta(microseconds=1)


def _unread(
    store: RecordStore, bundle: Bundle, tested: AbstractSet[Claim], deadline: timedelta | None
) -> datetime:
    """The newest audit that evidence against an earlier certificate of the bundle rests on.

    Nobody serves it, so no promise reads it. Each audit is tested at the alpha of its certificate,
    or at the bundle's where the records do not know that one; a single word counts. What comes
    after such evidence is tested again.
    """
    known, before = loaded(store), bundle.certificates["never"]
    served = {(bundle.id, name) for name in audited_under(store, bundle.id)}
    others = (
        served - tested - {(void.bundle, void.certificate) for void in voids_of(store, bundle.id)}
    )
    trail = AuditTrail(store, bundle.id, [name for _, name in others])
    trail.read()
    rates: dict[Claim, float] = {claim: known[claim].alpha for claim in others if claim in known}
    left, newest = with_overdue(trail.samples, deadline, trail.now), NEVER
    counts = trail.counts
    while (found := replay(left, counts, before.alpha, before.delta, rates)).void:
        newest = newest_carrier(left, found, NEVER)
        left, counts = [one for one in left if one.arrived > newest], []
    return newest


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
