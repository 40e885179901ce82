"""Rows that each carry the hash of the one before: the tamper-evident log.

    hash = sha256(previous hash + canonical JSON of the row's other columns that are not null)

After Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics" (1999), with signed
heads instead of evolving keys. Every writer has its own chain, so replicas do not wait for each
other. Null columns are left out, so that a column added later does not change old hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.records.canonical import canonical_json
from service.records.head import SigningKey
from service.records.tables import CHAINED, heads, tails

GENESIS = "0" * 64
HEAD_EVERY = 1000
"""Rows between two heads that are kept for good; the end itself is signed with every batch."""

# Built once: SQLAlchemy takes longer to build a statement than SQLite to run it.
FIND_TAIL = (
    select(tails.c.sequence, tails.c.hash).where(tails.c.chain == bindparam("at")).with_for_update()
)
MOVE_TAIL = (
    update(tails)
    .where(tails.c.chain == bindparam("at"))
    .values({column.name: bindparam(column.name) for column in tails.c})
)
INSERT = {table.name: insert(table) for table in CHAINED}


def row_hash(row: Mapping[Any, Any]) -> str:
    """Hash of a row with its ``previous_hash``, hexadecimal."""
    content = {
        name: value
        for name, value in row.items()
        if value is not None and name not in {"hash", "previous_hash"}
    }
    return sha256((row["previous_hash"] + canonical_json(content)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a chain, locked until the transaction ends."""

    chain: str
    sequence: int
    hash: str


def lock_tail(connection: Connection, table: Table, writer: str, key: SigningKey) -> Tail:
    """The end of a writer's chain of a table; the chain is begun where there is none."""
    chain = f"{table.name}:{writer}"
    found = connection.execute(FIND_TAIL, {"at": chain}).one_or_none()
    if found is None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        start = asdict(key.sign(chain, 0, GENESIS))
        connection.execute(dialect.insert(tails).values(start).on_conflict_do_nothing())
        found = connection.execute(FIND_TAIL, {"at": chain}).one()
    return Tail(chain, found.sequence, found.hash)


def append(
    connection: Connection,
    table: Table,
    tail: Tail,
    rows: Sequence[Mapping[str, Any]],
    key: SigningKey,
) -> None:
    """Add rows to the end of a chain and sign the new end, in the caller's transaction."""
    previous = tail.hash
    linked: list[dict[str, Any]] = []
    for sequence, row in enumerate(rows, start=tail.sequence + 1):
        item = {**row, "chain": tail.chain, "sequence": sequence, "previous_hash": previous}
        previous = item["hash"] = row_hash(item)
        linked.append(item)
    connection.execute(INSERT[table.name], linked)
    last = tail.sequence + len(linked)
    head = asdict(key.sign(tail.chain, last, previous))
    connection.execute(MOVE_TAIL, {**head, "at": tail.chain})
    if last // HEAD_EVERY > tail.sequence // HEAD_EVERY:
        connection.execute(insert(heads).values(head))
