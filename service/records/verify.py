"""Whether the records are as they were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, RowMapping, Table, select

from service.records.chain import GENESIS, row_hash
from service.records.head import Head, is_signed, key_id
from service.records.store import RecordStore
from service.records.tables import CHAINED, tails

ProblemKind = Literal["changed", "removed", "inserted", "unlinked", "bad_signature"]
PAGE_ROWS = 1000
MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that nobody who only used the service could have done.

    Args:
        kind: ``changed`` (a row is not what its hash says), ``removed`` (rows are gone),
            ``inserted`` (a row that no signed end covers), ``unlinked`` (a row does not follow the
            one before it, or is not the one that was signed), ``bad_signature``.
        chain: where.
        sequence: the row, or the first of those that are gone.
        detail: one sentence.
    """

    kind: ProblemKind
    chain: str
    sequence: int
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found: at most 100 problems."""

    chains: int
    rows: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Signed:
    """What is signed of one chain: where retention ended, and the hashes seen after that."""

    start: int
    previous: str
    marks: Mapping[int, str]


def verify(
    store: RecordStore,
    *,
    keys: Sequence[Ed25519PublicKey] = (),
    anchors: Sequence[Head] = (),
) -> VerifyReport:
    """Read every row and follow every chain.

    Args:
        store: the records.
        keys: public keys of other writers and of earlier times, beside the store's own.
        anchors: heads that were kept outside the database (`RecordStore.heads`). Only they show
            that the whole database was set back to an earlier state.

    Raises:
        RecordsUnavailable: the database does not work now.
    """
    known = {key_id(key): key for key in (store.key.public, *keys)}
    problems: list[Problem] = []
    rows = 0
    with store.reading() as connection:
        ends = [Head.of_row(row) for row in connection.execute(select(tails)).mappings()]
        signed: dict[str, list[Head]] = {}
        for head in (*ends, *store.old_heads(connection), *anchors):
            signed.setdefault(head.chain, [])
            if is_signed(head, known):
                signed[head.chain].append(head)
            else:
                text = f"the head that names key {head.key_id} is not signed by it"
                problems.append(Problem("bad_signature", head.chain, head.sequence, text))
        for table in CHAINED:
            for chain in connection.scalars(select(table.c.chain).distinct()):
                signed.setdefault(chain, [])
        for chain, heads in sorted(signed.items()):
            for found in _follow(connection, chain, _trusted(heads)):
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    rows += found
                if len(problems) >= MOST_PROBLEMS:
                    break
    return VerifyReport(len(signed), rows, tuple(problems[:MOST_PROBLEMS]))


def _trusted(heads: Sequence[Head]) -> _Signed:
    deleted = [head for head in heads if head.kind == "retention"]
    last = max(deleted, key=lambda head: head.sequence, default=None)
    start, previous = (0, GENESIS) if last is None else (last.sequence, last.hash)
    marks = {head.sequence: head.hash for head in heads if head.sequence > start}
    return _Signed(start, previous, marks)


def _follow(connection: Connection, chain: str, signed: _Signed) -> Iterator[Problem | int]:
    """Problems of one chain, and in between how many rows were read."""
    sequence, previous = signed.start, signed.previous
    end = max(signed.marks, default=signed.start)
    for page in _pages(connection, chain):
        for row in page:
            number = row["sequence"]
            if number <= signed.start or number > end:
                yield Problem("inserted", chain, number, "no signed head covers this row")
                continue
            if number > sequence + 1:
                gone = f"rows {sequence + 1} to {number - 1} are gone"
                yield Problem("removed", chain, sequence + 1, gone)
            elif row["previous_hash"] != previous:
                yield Problem("unlinked", chain, number, "it does not follow the row before it")
            if row_hash(row) != row["hash"]:
                yield Problem("changed", chain, number, "its content is not what its hash says")
            if signed.marks.get(number, row["hash"]) != row["hash"]:
                yield Problem("unlinked", chain, number, "it is not the row that was signed here")
            sequence, previous = number, row["hash"]
        yield len(page)
    if sequence < end:
        yield Problem("removed", chain, sequence + 1, f"rows {sequence + 1} to {end} are gone")


def _pages(connection: Connection, chain: str) -> Iterator[Sequence[RowMapping]]:
    table = _table(chain)
    if table is None:
        return
    last = -1
    while True:
        wanted = select(table).where(table.c.chain == chain).where(table.c.sequence > last)
        found = connection.execute(wanted.order_by(table.c.sequence).limit(PAGE_ROWS))
        page = found.mappings().all()
        if not page:
            return
        yield page
        last = page[-1]["sequence"]


def _table(chain: str) -> Table | None:
    """The table that a chain's name begins with; a forged head may name none."""
    return next((table for table in CHAINED if chain.startswith(f"{table.name}:")), None)
