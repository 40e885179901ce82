"""Certificates that audits have shown not to hold: written once, kept for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from service.records.canonical import microseconds
from service.records.chain import append, lock_tail
from service.records.errors import InvalidRecord
from service.records.store import RecordStore
from service.records.tables import voids


@dataclass(frozen=True, slots=True)
class Finding:
    """What voided a certificate.

    Args:
        alpha: error rate promised. delta: chance that it is voided although it holds.
        wrong: audited answers found wrong.
        audits: audited answers in all.
    """

    alpha: float
    delta: float
    wrong: int
    audits: int


def voided(store: RecordStore, certificates: Iterable[str]) -> frozenset[str]:
    """Those of the certificates that are void. Raises RecordsUnavailable."""
    wanted = select(voids.c.certificate).where(voids.c.certificate.in_(sorted(certificates)))
    with store.reading() as connection:
        return frozenset(connection.scalars(wanted))


def make_void(store: RecordStore, certificates: Iterable[str], finding: Finding) -> None:
    """Write down that certificates are void; those that are already stay as they were written.

    Raises RecordsUnavailable.
    """
    for certificate in sorted(set(certificates) - voided(store, certificates)):
        row = {
            "certificate": certificate,
            "created_us": microseconds(datetime.now(UTC)),
            "alpha": finding.alpha,
            "delta": finding.delta,
            "wrong": finding.wrong,
            "audits": finding.audits,
        }
        try:
            with store.writing() as connection:
                tail = lock_tail(connection, voids, store.writer, store.key)
                append(connection, voids, tail, [row], store.key)
        except InvalidRecord:
            continue  # another replica wrote it first
