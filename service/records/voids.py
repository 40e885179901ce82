"""What audits have shown of certificates: each finding in the order in which it was made.

The state follows from the audits and is computed from them; here stands when it changed, and why.
A certificate is void while its last line says so. What a version before 0006 found is a void too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Connection, func, select

from service.records.canonical import microseconds
from service.records.chain import append, lock_tail
from service.records.errors import InvalidRecord
from service.records.store import RecordStore
from service.records.tables import void_history, voids

Kind = Literal["void", "lifted"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audits say of a promise.

    Args:
        alpha: error rate promised. delta: chance that it is voided although it holds.
        evidence: against it, over what voids it: 1 or more is a void.
        wrong: audited answers found wrong.
        audits: audited answers in all.
    """

    alpha: float
    delta: float
    evidence: float
    wrong: int
    audits: int


@dataclass(frozen=True, slots=True)
class Change:
    """A line of a certificate's history; number 0 was written by an earlier version."""

    kind: Kind
    number: int


def last_changes(store: RecordStore, certificates: Iterable[str]) -> Mapping[str, Change]:
    """The last line of each certificate that has one. Raises RecordsUnavailable."""
    names = sorted(certificates)
    with store.reading() as connection:
        return _last_changes(connection, names)


def voided(store: RecordStore, certificates: Iterable[str]) -> frozenset[str]:
    """Those of the certificates that are void. Raises RecordsUnavailable."""
    last = last_changes(store, certificates)
    return frozenset(name for name, change in last.items() if change.kind == "void")


def write_change(
    store: RecordStore, known: Mapping[str, Change | None], kind: Kind, finding: Finding
) -> None:
    """Write down that certificates became void, or are so no more.

    Args:
        known: per certificate the last line that the writer knew; where another replica has
            written one since, it knew more, and nothing is written.

    Raises RecordsUnavailable.
    """
    for certificate in sorted(known):
        try:
            with store.writing() as connection:
                tail = lock_tail(connection, void_history, store.writer, store.key)
                last = _last_changes(connection, [certificate]).get(certificate)
                if last != known[certificate]:
                    continue
                row = {
                    "certificate": certificate,
                    "number": 1 if last is None else last.number + 1,
                    "kind": kind,
                    "created_us": microseconds(datetime.now(UTC)),
                    "alpha": finding.alpha,
                    "delta": finding.delta,
                    "evidence": finding.evidence,
                    "wrong": finding.wrong,
                    "audits": finding.audits,
                }
                append(connection, void_history, tail, [row], store.key)
        except InvalidRecord:
            continue  # another replica wrote it first


def _last_changes(connection: Connection, certificates: list[str]) -> dict[str, Change]:
    found = dict.fromkeys(
        connection.scalars(
            select(voids.c.certificate).where(voids.c.certificate.in_(certificates))
        ),
        Change("void", 0),
    )
    at, number = void_history.c.certificate, void_history.c.number
    newest = select(at, func.max(number).label("last")).where(at.in_(certificates)).group_by(at)
    last = newest.subquery()
    wanted = select(at, number, void_history.c.kind).join(
        last, (at == last.c.certificate) & (number == last.c.last)
    )
    for row in connection.execute(wanted):
        found[row.certificate] = Change(row.kind, row.number)
    return found
