"""Which answers, and page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from probes.types import Reason, Verdict
from service.records.answer import AnswerRecord, answer_record
from service.records.canonical import microseconds, storable
from service.records.errors import InvalidRecord
from service.records.tables import answers


@dataclass(frozen=True, slots=True)
class Filter:
    """Which answers; what is None does not restrict.

    Args:
        since: not older than this.
        until: older than this.
        arrived_since: not taken before this by the database; where it did not say, as `since`.
        decision: accept, escalate or reject.
        reason: the rule that decided.
        slice: metadata that the answer has, such as ``{"camera": "A"}``.
        audit: drawn for an audit, or not.
    """

    since: datetime | None = None
    until: datetime | None = None
    decision: Verdict | None = None
    reason: Reason | None = None
    slice: Mapping[str, str] = field(default_factory=dict)
    audit: bool | None = None
    arrived_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some answers, newest first, and the cursor of the next page (None: this is the last)."""

    answers: list[AnswerRecord]
    next: str | None


def page_of(connection: Connection, where: Filter, limit: int, after: str) -> Page:
    """One page. The cursor is a place, not a count: answers that come meanwhile do not shift it."""
    wanted = _restricted(where, connection.dialect.name).order_by(
        answers.c.created_us.desc(), answers.c.id.desc()
    )
    if after:
        wanted = wanted.where(tuple_(answers.c.created_us, answers.c.id) < _place(after))
    rows = connection.execute(wanted.limit(limit + 1)).mappings().all()
    shown = rows[:limit]
    more = f"{shown[-1]['created_us']}.{shown[-1]['id']}" if len(rows) > limit else None
    return Page([answer_record(row) for row in shown], more)


def _restricted(where: Filter, dialect: str) -> Select[tuple[object, ...]]:
    wanted = select(answers)
    if where.since is not None:
        wanted = wanted.where(answers.c.created_us >= microseconds(where.since))
    if where.until is not None:
        wanted = wanted.where(answers.c.created_us < microseconds(where.until))
    if where.arrived_since is not None:
        arrived = func.coalesce(answers.c.arrived_us, answers.c.created_us)
        wanted = wanted.where(arrived >= microseconds(where.arrived_since))
    if where.decision is not None:
        wanted = wanted.where(answers.c.decision == where.decision)
    if where.reason is not None:
        wanted = wanted.where(answers.c.reason == where.reason)
    if where.audit is not None:
        wanted = wanted.where(answers.c.audit.is_(where.audit))
    for name, value in where.slice.items():
        wanted = wanted.where(_has(storable(name), storable(value), dialect))
    return wanted


def _has(name: str, value: str, dialect: str) -> ColumnElement[bool]:
    """Whether the metadata has this. A path of SQLite's cannot name what holds a quote."""
    if dialect != "sqlite":
        found: ColumnElement[bool] = answers.c.metadata[name].as_string() == value
        return found
    pairs = func.json_each(answers.c.metadata).table_valued("key", "value")
    return select(1).select_from(pairs).where(pairs.c.key == name, pairs.c.value == value).exists()


def _place(cursor: str) -> tuple[int, str]:
    created, _, answer_id = cursor.partition(".")
    if not (created.isascii() and created.isdigit() and len(created) < 19 and answer_id.isalnum()):
        raise InvalidRecord("after: this is no cursor; send the 'next' of the page before")
    return int(created), answer_id
