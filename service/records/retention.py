"""Deleting records by age, so that the rest still verifies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, delete, func, insert, select

from service.records.audits import keep_audits
from service.records.canonical import microseconds
from service.records.chain import HEAD_EVERY
from service.records.store import RecordStore
from service.records.tables import answers, heads, outcomes, tails

CHUNK_ROWS = HEAD_EVERY
"""Rows deleted per transaction, so that writers wait little."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows retention deleted."""

    answers: int
    outcomes: int


def delete_before(store: RecordStore, cutoff: datetime) -> Deleted:
    """Delete what is older, in every writer's chain, leaving a signed head in its place.

    A chain is deleted from its start up to the first row that is young enough, so a row may stay
    a little longer than its age says, never shorter, and a word stays as long as its answer. Rows
    dated in the future (a clock that jumped) keep nothing alive. Of an audit stays what the test of
    the promise needs (`service.records.audits.Sample`), so that the test goes on as if nothing were
    deleted. Run `verify` first: what is deleted cannot be verified any more.

    Raises:
        RecordsUnavailable: the database does not work now; what was deleted stays deleted.
    """
    with store.reading() as connection:
        chains = list(connection.scalars(select(tails.c.chain)))
    counts = {answers.name: 0, outcomes.name: 0}
    for table in (answers, outcomes):  # in this order: an audit is kept with its outcome
        for chain in chains:
            if not chain.startswith(f"{table.name}:"):
                continue
            while deleted := _delete_chunk(store, table, chain, microseconds(cutoff)):
                counts[table.name] += deleted
    return Deleted(counts[answers.name], counts[outcomes.name])


def _delete_chunk(store: RecordStore, table: Table, chain: str, cutoff_us: int) -> int:
    """Delete the oldest rows of a chain; 0 when none is old enough."""
    with store.writing() as connection:
        connection.execute(select(tails.c.chain).where(tails.c.chain == chain).with_for_update())
        last = _last_deleted(connection, table, chain, cutoff_us)
        if last is None:
            return 0
        here = table.c.chain == chain
        last_hash = connection.scalar(select(table.c.hash).where(here, table.c.sequence == last))
        assert isinstance(last_hash, str)
        if table is answers:
            keep_audits(connection, chain, last)
        gone = connection.execute(delete(table).where(here, table.c.sequence <= last))
        connection.execute(delete(heads).where(heads.c.chain == chain, heads.c.sequence <= last))
        head = store.key.sign(chain, last, last_hash, "retention")
        connection.execute(insert(heads).values(asdict(head)))
        return gone.rowcount


def _last_deleted(connection: Connection, table: Table, chain: str, cutoff_us: int) -> int | None:
    """Sequence of the last row to delete now."""
    here = table.c.chain == chain
    now_us = microseconds(datetime.now(UTC))
    first, kept = connection.execute(
        select(
            func.min(table.c.sequence),
            func.min(table.c.sequence).filter(table.c.created_us.between(cutoff_us, now_us)),
        ).where(here)
    ).one()
    if table is outcomes:  # by a clock that was behind, a word may look older than its answer
        needed = select(func.min(table.c.sequence)).where(here, table.c.answer_id == answers.c.id)
        kept = min(
            (one for one in (kept, connection.scalar(needed)) if one is not None), default=None
        )
    old = select(func.max(table.c.sequence)).where(here, table.c.created_us < cutoff_us)
    if kept is not None:
        old = old.where(table.c.sequence < kept)
    last = connection.scalar(old)
    return None if last is None else min(int(last), int(first) + CHUNK_ROWS - 1)
