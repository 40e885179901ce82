"""Both databases: every test that takes ``url`` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ulid import ULID

from service.records.answer import AnswerRecord, question_hash
from service.records.head import SigningKey
from service.records.store import RecordStore

WITHOUT = "TESTS_WITHOUT_POSTGRESQL"


class PostgresServer:
    """A server in a folder of its own, reached by a socket there; never run by root."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._call("initdb", "--no-sync", "--auth=trust", "--username=gate", "--encoding=UTF8")

    def start(self) -> None:
        """Start and wait until it takes connections."""
        options = f"-c listen_addresses='' -k {self._folder} -c fsync=off"
        log = self._folder / "log"
        self._call("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop; ``immediate`` is a crash of the database."""
        self._call("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def empty_database(self) -> str:
        """URL of the database, emptied: a folder for each test would cost more than the tests."""
        server = {"host": str(self._folder), "user": "gate", "dbname": "postgres"}
        with psycopg.connect(**server, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return f"postgresql://gate@/postgres?host={self._folder}"

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, f"--pgdata={self._folder / 'data'}", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set")
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.fail(f"there is no PostgreSQL here: install its server, or set {WITHOUT}=1")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, for the socket's path
    try:
        server = PostgresServer(binaries, folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
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
