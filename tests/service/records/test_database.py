from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from service.records import database
from service.records.database import connect
from service.records.errors import RecordsError
from service.records.store import RecordStore
from service.records.tables import metadata


def test_the_migrations_make_the_tables(store: RecordStore) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "records_version", "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def test_replicas_migrate_at_once(url: str, open_store: Callable[..., RecordStore]) -> None:
    stores = [open_store(url, migrated=False) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(RecordStore.migrate, stores))
    assert stores[0].page().answers == []


class Switching:
    """A connection to a file that another one is just switching to write-ahead logging."""

    def __init__(self, times: int, code: int) -> None:
        self.left, self.code = times, code

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode=WAL"
        if self.left:
            self.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_a_file_that_is_being_switched_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(database.time, "sleep", slept.append)
    database._write_ahead(Switching(2, sqlite3.SQLITE_BUSY))
    assert len(slept) == 2
    with pytest.raises(sqlite3.OperationalError):
        database._write_ahead(Switching(1, sqlite3.SQLITE_READONLY))
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
    with pytest.raises(sqlite3.OperationalError):
        database._write_ahead(Switching(1, sqlite3.SQLITE_BUSY))
    assert len(slept) == 2


def test_tables_of_a_newer_version_are_left_alone(store: RecordStore) -> None:
    with store.writing() as connection:
        connection.execute(text("UPDATE records_version SET version_num = '9999'"))
    with pytest.raises(RecordsError, match="version"):
        store.migrate()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "malformed"),
        ("sqlite://", "cannot hold records"),
        ("sqlite:///:memory:", "cannot hold records"),
        ("mysql://user:secret@host/name", r"user:\*\*\*@host"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message) as caught:
        connect(url)
    assert "secret" not in str(caught.value)
