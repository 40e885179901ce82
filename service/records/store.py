"""The records in their database. Every call waits for it: from a coroutine, use a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import Connection, func, select, text

from service.records import database
from service.records.answer import AnswerRecord, answer_record, answer_row
from service.records.canonical import microseconds
from service.records.chain import append, lock_tail
from service.records.database import (
    AUDIT_LOCK,
    Synchronous,
    check_file,
    connect,
    database_now,
    sqlite_file,
    translated,
)
from service.records.errors import InvalidRecord, UnknownAnswer
from service.records.head import Head, SigningKey
from service.records.listing import Filter, Page, page_of
from service.records.outcome import Outcome, outcome_of, outcome_row
from service.records.tables import answers, heads, outcomes, past_audits, tails
from service.records.words import Ruling, rule_on

PAGE_ROWS = 500
RACES = 3
"""Times that an outcome is tried when another replica takes its version number."""


class RecordStore:
    """Writes to its writer's chains, and reads everybody's.

    Args:
        url: see `connect`.
        writer: name of this writer. Stable over restarts is best (a host's name); two processes
            that share a name wait for each other, and nothing worse.
        key: signs the ends of the chains.
        synchronous, prepared: see `connect`.

    Raises:
        RecordsError: the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        writer: str,
        key: SigningKey,
        synchronous: Synchronous = "normal",
        prepared: bool = True,
    ) -> None:
        self.file = sqlite_file(url)
        self.engine = connect(url, synchronous=synchronous, prepared=prepared, file=self.file)
        self._writing = self.engine.execution_options(writes=True)
        self.writer = writer
        self.key = key

    def migrate(self) -> None:
        """Create the tables, or bring them up to date. Raises RecordsUnavailable."""
        database.migrate(self.engine)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
        if self.file is not None:
            self.file.forget_log()

    @property
    def there(self) -> bool:
        """Whether the file that was opened, where the database is one, lies where it was."""
        return self.file is None or self.file.there

    def append_answers(self, records: Sequence[AnswerRecord], *, again: bool = False) -> None:
        """Write answers in one transaction: all or none.

        The database says when they arrived, and numbers the audits among them: their order hangs
        on no replica's clock, and nothing comes to stand before what somebody could have read.

        Args:
            records: at least one.
            again: an earlier try ended without word; what it did write is not written twice.

        Raises:
            InvalidRecord: one of them cannot be written, ever.
            RecordsUnavailable: the database does not work now; nothing, or all, was written.
        """
        rows = [answer_row(record) for record in records]
        with self.writing() as connection:
            tail = lock_tail(connection, answers, self.writer, self.key)
            if again:  # behind the lock: an earlier try may only now come to its end
                ids = [row["id"] for row in rows]
                found = connection.scalars(select(answers.c.id).where(answers.c.id.in_(ids)))
                known = set(found)
                rows = [row for row in rows if row["id"] not in known]
            if rows:
                _stamp(connection, rows)
                append(connection, answers, tail, rows, self.key)

    def add_outcome(self, outcome: Outcome) -> Literal["added", "unchanged"]:
        """Write an outcome. The same word twice from one reviewer is kept once; another word is a
        new version beside the old one. The database numbers the words on an answer: their order
        hangs on no replica's clock. Which of them counts: `service.records.words`.

        Raises:
            UnknownAnswer: there is no such answer.
            InvalidRecord: it cannot be written.
            RecordsUnavailable: the database does not work now.
        """
        for _ in range(RACES - 1):
            try:
                return self._add_outcome(outcome)
            except InvalidRecord:  # perhaps the version number went to another replica
                continue
        return self._add_outcome(outcome)

    def _add_outcome(self, outcome: Outcome) -> Literal["added", "unchanged"]:
        row = outcome_row(outcome)
        with self.writing() as connection:
            tail = lock_tail(connection, outcomes, self.writer, self.key)
            if connection.scalar(select(1).where(answers.c.id == outcome.answer_id)) is None:
                raise UnknownAnswer(f"there is no answer {outcome.answer_id} in the records")
            said = (
                connection.execute(
                    select(outcomes)
                    .where(outcomes.c.answer_id == row["answer_id"])
                    .where(outcomes.c.reviewer == row["reviewer"])
                    .order_by(outcomes.c.version.desc())
                    .limit(1)
                )
                .mappings()
                .one_or_none()
            )
            if said is not None:
                if outcome_of(said).says == outcome_of(row).says:
                    return "unchanged"
                row["version"] = said["version"] + 1
            here = outcomes.c.answer_id == row["answer_id"]
            words = connection.scalar(select(func.max(outcomes.c.position)).where(here))
            row["position"] = (words or 0) + 1
            append(connection, outcomes, tail, [row], self.key)
        return "added"

    def get(self, answer_id: str) -> AnswerRecord | None:
        """The answer, or None. Raises RecordsUnavailable."""
        with self.reading() as connection:
            found = connection.execute(select(answers).where(answers.c.id == answer_id))
            row = found.mappings().one_or_none()
        return None if row is None else answer_record(row)

    def own_latest(self, bundle: str, count: int) -> list[AnswerRecord]:
        """This writer's newest answers with a risk by a bundle, oldest first."""
        wanted = (
            select(answers)
            .where(answers.c.chain == f"{answers.name}:{self.writer}", answers.c.bundle == bundle)
            .where((answers.c.stage == 2) | answers.c.risk.is_not(None))
            .order_by(answers.c.sequence.desc())
            .limit(count)
        )
        with self.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [answer_record(row) for row in reversed(rows)]

    def outcomes_of(self, answer_ids: Sequence[str]) -> list[Outcome]:
        """What was said of these answers, in that order. Raises RecordsUnavailable."""
        wanted = (
            select(outcomes)
            .where(outcomes.c.answer_id.in_(answer_ids))
            .order_by(
                func.coalesce(outcomes.c.position, 0), outcomes.c.created_us, outcomes.c.version
            )
        )
        with self.reading() as connection:
            return [outcome_of(row) for row in connection.execute(wanted).mappings()]

    def page(self, where: Filter | None = None, *, limit: int = 100, after: str = "") -> Page:
        """Answers, newest first.

        Args:
            where: which ones; all by default.
            limit: most answers of the page.
            after: the page before's ``next``; empty for the first page.

        Raises:
            InvalidRecord: ``after`` is not a cursor.
            RecordsUnavailable: the database does not work now.
        """
        with self.reading() as connection:
            return page_of(connection, where or Filter(), limit, after)

    def judged(self, where: Filter | None = None) -> Iterator[tuple[AnswerRecord, Outcome | None]]:
        """Answers, newest first, each with the word that counts. Raises RecordsUnavailable."""
        after: str | None = ""
        while after is not None:
            page = self.page(where, limit=PAGE_ROWS, after=after)
            rulings = self.rulings(page.answers)
            for record in page.answers:
                ruling = rulings.get(record.id)
                yield record, None if ruling is None else ruling.outcome
            after = page.next

    def rulings(self, records: Sequence[AnswerRecord]) -> Mapping[str, Ruling]:
        """What the words on answers come to, by id, where there are any."""
        told: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes_of([record.id for record in records]):
            told.setdefault(outcome.answer_id, []).append(outcome)
        found = {one.id: rule_on(one.answer, one.audit, told.get(one.id, ())) for one in records}
        return {name: ruling for name, ruling in found.items() if ruling is not None}

    def heads(self) -> list[Head]:
        """The signed end of each chain. Kept elsewhere, they are anchors for `verify`."""
        with self.reading() as connection:
            return [Head.of_row(row) for row in connection.execute(select(tails)).mappings()]

    def old_heads(self, connection: Connection) -> list[Head]:
        """Heads signed on the way, and those that retention left."""
        return [Head.of_row(row) for row in connection.execute(select(heads)).mappings()]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes; committed at the end of the block.

        Raises RecordsUnavailable too where SQLite committed to a file that has gone.
        """
        with translated():
            with self._writing.begin() as connection:
                yield connection
            if self.file is not None:
                check_file(self.engine, self.file)

    @contextmanager
    def reading(self, statement_ms: int = 0) -> Iterator[Connection]:
        """One transaction that reads a single state of the database.

        Args:
            statement_ms: PostgreSQL ends a statement that takes longer; 0: however long it takes.
        """
        with translated(), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                connection.execute(text(f"SET LOCAL statement_timeout = {statement_ms}"))
            yield connection


def _stamp(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write when the rows arrived, and number the audits. Behind the lock of their tail."""
    drawn = [row for row in rows if row["audit"]]
    if drawn:
        if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            connection.execute(text(f"SELECT pg_advisory_xact_lock({AUDIT_LOCK})"))
        last = [
            select(func.coalesce(func.max(table.c.audit_number), 0)).scalar_subquery()
            for table in (answers, past_audits)
        ]
        for number, row in enumerate(drawn, start=max(connection.execute(select(*last)).one()) + 1):
            row["audit_number"] = number
    arrived = microseconds(database_now(connection))
    for row in rows:
        row |= {"arrived_us": arrived, "audit_number": row.get("audit_number")}


def without_question(record: AnswerRecord) -> AnswerRecord:
    """The record with its question's hash only."""
    return record if record.question is None else replace(record, question=None)
