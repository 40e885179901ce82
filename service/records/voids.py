"""What audits have shown of certificates: each finding in the order in which it was made.

A certificate is void while its last line says so. The line keeps what the void rests on, so that
corrected words alone can lift it, and which data the certificate was from, so that no other
certificate from the same data stands. What a version before 0006 found is a void too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NotRequired, TypedDict

from sqlalchemy import Connection, RowMapping, exists, func, select

from service.records.canonical import microseconds, moment
from service.records.chain import append, lock_tail
from service.records.database import WATCH_MS
from service.records.errors import InvalidRecord
from service.records.store import RecordStore
from service.records.tables import DRAWN, answers, past_audits, totals, void_history, voids

Kind = Literal["void", "lifted"]


class Basis(TypedDict):
    """What a void rests on.

    ``certificates`` that were tested together, the number of the last row that was ``read`` of
    each chain of answers, and the ids of the audits that counted as ``wrong``. ``siblings`` were
    tested with them: bundle, certificate and alpha of each. ``confirmed``: single words counted as
    right. Both are left out where they say nothing.
    """

    certificates: list[str]
    read: dict[str, int]
    wrong: list[str]
    siblings: NotRequired[list[tuple[str, str, float]]]
    confirmed: NotRequired[bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audits say of a promise.

    Args:
        alpha: error rate promised. delta: chance that it is voided although it holds.
        evidence: against it, over what voids it: 1 or more is a void.
        wrong: audited answers found wrong.
        audits: audited answers in all.
        bundle: id of the bundle that decided.
        data: names of the data that the certificates are from.
        until: when the newest audit arrived that the evidence rests on.
        basis: what a void rests on; None where an earlier version found it by another test.
    """

    alpha: float
    delta: float
    evidence: float
    wrong: int
    audits: int
    bundle: str
    data: frozenset[str]
    until: datetime
    basis: Basis | None


@dataclass(frozen=True, slots=True)
class Change:
    """The last line of a certificate's history.

    Args:
        certificate: its id. kind: void, or lifted.
        number: of the line; 0 was written by a version before 0006.
        alpha, delta: of the promise.
        evidence: that was found; 1 where a version before 0006 kept none.
        until: newest audit that a void rests on; where a version before 0007 wrote it, its own
            time.
        bundle, data, basis: as :class:`Finding` has them; None, empty and None in lines of versions
            before 0007.
    """

    certificate: str
    kind: Kind
    number: int
    alpha: float
    delta: float
    evidence: float
    until: datetime
    bundle: str | None = None
    data: frozenset[str] = frozenset()
    basis: Basis | None = None


def last_changes(store: RecordStore) -> Mapping[str, Change]:
    """The last line of each certificate that has one. Raises RecordsUnavailable."""
    with store.reading(WATCH_MS) as connection:
        return _last_changes(connection)


def voids_of(store: RecordStore, bundle: str) -> list[Change]:
    """The voids in force of a bundle's certificates, of those of before too.

    Raises RecordsUnavailable.
    """
    return [
        void
        for void in last_changes(store).values()
        if void.kind == "void"
        and (
            void.bundle == bundle
            or (void.bundle is None and was_audited(store, void.certificate, bundle))
        )
    ]


def was_audited(store: RecordStore, certificate: str, bundle: str) -> bool:
    """Whether answers of a bundle were audited under a certificate. Raises RecordsUnavailable."""
    with store.reading(WATCH_MS) as connection:
        return any(
            connection.scalar(
                select(
                    exists().where(
                        table.c.certificate == certificate, table.c.bundle == bundle, *of
                    )
                )
            )
            for table, of in ((past_audits, ()), (totals, ()), (answers, (DRAWN,)))
        )


def write_change(
    store: RecordStore, known: Mapping[str, Change | None], kind: Kind, finding: Finding
) -> None:
    """Write down that certificates became void, or are so no more.

    Args:
        known: per certificate the last line that the writer knew; where another replica has
            written one since, it knew more, and nothing is written.

    Raises RecordsUnavailable.
    """
    row: dict[str, Any] = {
        "kind": kind,
        "created_us": microseconds(datetime.now(UTC)),
        "alpha": finding.alpha,
        "delta": finding.delta,
        "evidence": finding.evidence,
        "wrong": finding.wrong,
        "audits": finding.audits,
    }
    if kind == "void":
        row |= {
            "bundle": finding.bundle,
            "data": sorted(finding.data),
            "until_us": microseconds(finding.until),
            "basis": finding.basis,
        }
    for certificate in sorted(known):
        try:
            with store.writing() as connection:
                tail = lock_tail(connection, void_history, store.writer, store.key)
                last = _last_changes(connection).get(certificate)
                if last != known[certificate]:
                    continue
                number = 1 if last is None else last.number + 1
                here = {**row, "certificate": certificate, "number": number}
                append(connection, void_history, tail, [here], store.key)
        except InvalidRecord:
            continue  # another replica wrote it first


def _last_changes(connection: Connection) -> dict[str, Change]:
    found = {
        row["certificate"]: Change(
            row["certificate"],
            "void",
            0,
            row["alpha"],
            row["delta"],
            1.0,
            moment(row["created_us"]),
        )
        for row in connection.execute(select(voids)).mappings()
    }
    at, number = void_history.c.certificate, void_history.c.number
    last = select(at, func.max(number).label("last")).group_by(at).subquery()
    newest = select(void_history).join(last, (at == last.c.certificate) & (number == last.c.last))
    for row in connection.execute(newest).mappings():
        found[row["certificate"]] = _change(row)
    return found


def _change(row: RowMapping) -> Change:
    until = row["created_us"] if row["until_us"] is None else row["until_us"]
    return Change(
        certificate=row["certificate"],
        kind=row["kind"],
        number=row["number"],
        alpha=row["alpha"],
        delta=row["delta"],
        evidence=row["evidence"],
        until=moment(until),
        bundle=row["bundle"],
        data=frozenset(row["data"] or ()),
        basis=row["basis"],
    )
