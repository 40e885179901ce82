"""Both databases: every test that takes ``url`` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from probes.bundle import Bundle
from service.records.answer import AnswerRecord, question_hash
from service.records.head import SigningKey
from service.records.store import RecordStore
from tests.service.records.line import Line


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


def answered(**changes: Any) -> AnswerRecord:
    """A record as the service makes it; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": str(ULID()),
        "created": datetime.now(UTC),
        "question_sha256": question_hash("Is there a scratch?"),
        "image_sha256": "ab" * 32,
        "model": "tiny",
        "revision": "r1",
        "bundle": "b-1",
        "certificate": None,
        "decision": "escalate",
        "reason": "risk_above_threshold",
        "mode": "enforce",
        "self_consistency": "auto",
        "risk": 0.1 + 0.2,
        "stage": 2,
        "accept_below": 0.07,
        "reject_above": None,
        "signals": {
            "hidden_state_probe": {"logit": -1.5, "layers": [6]},
            "token_confidence": {"mean_logprob": -0.2, "first_token_entropy": 1e-17, "margin": 1.0},
            "evidence": {"missing": "not_requested"},
        },
        "timings": {"generate": 0.04, "total": 0.05},
        "metadata": {"line": "3", "camera": "A"},
        "answer": "yes",
    }
    return AnswerRecord(**{**fields, **changes})


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
