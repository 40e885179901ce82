"""The database: how it is reached, brought up to date, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from service.records.canonical import canonical_json
from service.records.database_file import DatabaseFile
from service.records.errors import InvalidRecord, RecordsError, RecordsUnavailable

Synchronous = Literal["normal", "full"]
BUSY_SECONDS = 5.0
"""How long SQLite waits for another writer."""
STATEMENT_MS = 10_000
"""How long PostgreSQL works on one statement."""
MIGRATION_LOCK = 0x766C6D67
"""PostgreSQL's advisory lock while replicas that start together migrate."""
AUDIT_LOCK = MIGRATION_LOCK + 1
"""PostgreSQL's advisory lock while audits are numbered, from the number to the commit."""
WATCH_MS = 60_000
"""How long PostgreSQL works on one statement of who reads the audits again and again."""


def connect(
    url: str,
    *,
    synchronous: Synchronous = "normal",
    prepared: bool = True,
    file: DatabaseFile | None = None,
) -> Engine:
    """An engine for a database; nothing is opened yet.

    Args:
        url: ``sqlite:///folder/records.db`` or ``postgresql://user:password@host/name``.
        synchronous: SQLite only. ``normal`` survives a crash of the process; ``full`` a power
            loss too, and waits for the disk at every commit.
        prepared: PostgreSQL only. False where a pooler gives every transaction another server.
        file: SQLite only. Looked at whenever a connection is taken: see `sqlite_file`.

    Raises:
        RecordsError: the URL is malformed or names another kind of database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise RecordsError("the records' URL is malformed; see docs for its form") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return _sqlite(parsed, synchronous, file)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed.set(drivername="postgresql+psycopg"), prepared)
    raise RecordsError(
        f"{parsed.render_as_string(hide_password=True)} cannot hold records; "
        "use sqlite:///path/to/file or postgresql://..."
    )


def sqlite_file(url: str) -> DatabaseFile | None:
    """The file of a database that is one, by the URL that `connect` takes."""
    with suppress(ArgumentError):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            return DatabaseFile(Path(parsed.database))
    return None


def _sqlite(url: URL, synchronous: Synchronous, file: DatabaseFile | None) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=canonical_json
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        _write_ahead(connection)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA journal_size_limit=67108864")
        if file is not None:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")  # opens the log
            file.remember()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    if file is not None:
        for moment in ("do_connect", "checkout"):
            event.listen(engine, moment, lambda *_: check_file(engine, file))
    return engine


def check_file(engine: Engine, file: DatabaseFile) -> None:
    """Raise sqlite3.OperationalError, and close what is open, where the file is not the one."""
    try:
        file.check()
    except sqlite3.OperationalError:
        engine.dispose()
        file.forget_log()
        raise


def _write_ahead(connection: Any) -> None:
    """Have the file written ahead. Here SQLite itself does not wait for who switches it now."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _postgresql(url: URL, prepared: bool) -> Engine:
    """Nothing here is an option of the connection's start, or kept by it: poolers drop both."""
    arguments: dict[str, Any] = {"connect_timeout": 5, "tcp_user_timeout": 10000}
    arguments |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    if not prepared:
        arguments["prepare_threshold"] = None
    engine = create_engine(
        url, json_serializer=canonical_json, pool_pre_ping=True, connect_args=arguments
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_MS}")

    return engine


def database_now(connection: Connection) -> datetime:
    """The time by the database's clock: one for all replicas. SQLite has its machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now = connection.scalar(select(func.clock_timestamp()))
    assert isinstance(now, datetime)
    return now.astimezone(UTC)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into the two that matter: later, or never.

    Raises:
        InvalidRecord: the database refuses what it was given.
        RecordsUnavailable: everything else.
    """
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise InvalidRecord(f"the database refuses the record: {error.orig}") from error
    except (DBAPIError, sqlite3.Error) as error:  # the latter while a connection is prepared
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise RecordsUnavailable(f"the database does not work now: {cause}") from error
    except (SQLAlchemyError, OverflowError) as error:
        raise InvalidRecord(f"the record cannot be sent to the database: {error}") from error


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; several processes may do it at once.

    Raises:
        RecordsUnavailable: the database is locked, full or away.
        RecordsError: a newer version made the tables.
    """
    config = Config()
    config.set_main_option("script_location", "service.records:migrations")
    with translated(), engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RecordsError(f"the tables are of another version: {error}") from error
