"""Both databases: every test that takes ``url`` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.model.bundle import Bundle
from service.records.answer import AnswerRecord
from service.records.head import SigningKey
from service.records.store import RecordStore
from tests.service.records.line import Line, answered


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server = request.getfixturevalue("postgres")
    return server.empty_database()


@pytest.fixture
def open_store() -> Iterator[Callable[..., RecordStore]]:
    """Opens stores and closes them at the end; migrates unless told not to."""
    opened: list[RecordStore] = []

    def build(url: str, *, migrated: bool = True, **options: Any) -> RecordStore:
        options = {"writer": "one", "key": SigningKey.generate(), **options}
        store = RecordStore(url, **options)
        opened.append(store)
        if migrated:
            store.migrate()
        return store

    yield build
    for store in opened:
        store.close()


@pytest.fixture
def store(url: str, open_store: Callable[..., RecordStore]) -> RecordStore:
    """An empty store on either database."""
    return open_store(url)


@pytest.fixture
def record() -> Callable[..., AnswerRecord]:
    """Makes records."""
    return answered


@pytest.fixture
def line(store: RecordStore, record: Callable[..., AnswerRecord]) -> Line:
    """Audited answers in the store, and words on them."""
    return Line(store, record)


@pytest.fixture
def bundle(bundled: Callable[..., Bundle]) -> Bundle:
    """A bundle with certificates of every mode."""
    return bundled()
