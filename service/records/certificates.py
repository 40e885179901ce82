"""The certificates that services have loaded, and those that answers were audited under.

A certificate is written down when a service first reads its promise, with the names of its data:
so what audits show of one counts against each later one on the same data, whichever is loaded when
the words come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select

from service.records.audits import Claim
from service.records.canonical import microseconds
from service.records.chain import append, lock_tail
from service.records.database import WATCH_MS
from service.records.errors import InvalidRecord
from service.records.store import RecordStore
from service.records.tables import DRAWN, answers, certificates, past_audits


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate that a service has loaded.

    Args:
        claim: id of its bundle, and its own.
        data: names of the data that it is from.
        alpha: error rate promised, 0 to 1, as its promise is tested. delta: likewise.
    """

    claim: Claim
    data: frozenset[str]
    alpha: float
    delta: float


def loaded(store: RecordStore) -> dict[Claim, Loaded]:
    """All that were loaded with these records. Raises RecordsUnavailable."""
    with store.reading(WATCH_MS) as connection:
        rows = connection.execute(select(certificates)).mappings().all()
    found = [
        Loaded((row["bundle"], row["certificate"]), frozenset(row["data"]), row["alpha"],
               row["delta"])
        for row in rows
    ]  # fmt: skip
    return {one.claim: one for one in found}


def write_loaded(store: RecordStore, new: Iterable[Loaded]) -> None:
    """Write down certificates that were not loaded before. Raises RecordsUnavailable."""
    for one in new:
        bundle, certificate = one.claim
        row = {
            "bundle": bundle,
            "certificate": certificate,
            "created_us": microseconds(datetime.now(UTC)),
            "data": sorted(one.data),
            "alpha": one.alpha,
            "delta": one.delta,
        }
        try:
            with store.writing() as connection:
                tail = lock_tail(connection, certificates, store.writer, store.key)
                append(connection, certificates, tail, [row], store.key)
        except InvalidRecord:
            continue  # another replica wrote it first


def audited_under(store: RecordStore, bundle: str) -> frozenset[str]:
    """Certificates that a bundle's answers were audited under. Raises RecordsUnavailable."""
    found: set[str] = set()
    with store.reading() as connection:
        for table, of in ((past_audits, ()), (answers, (DRAWN,))):
            wanted = select(table.c.certificate).distinct()
            wanted = wanted.where(table.c.bundle == bundle, table.c.certificate.is_not(None), *of)
            found.update(connection.scalars(wanted))
    return frozenset(found)
