"""PostgreSQL behind a pooler: no options at a connection's start, no state beyond a transaction."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from service.records.answer import AnswerRecord
from service.records.database import WATCH_MS
from service.records.errors import RecordsUnavailable
from service.records.store import RecordStore

Open = Callable[..., RecordStore]
Make = Callable[..., AnswerRecord]
ENCRYPTION = 80877103, 80877104
NAMES = {"user", "database"}
POOLERS = {
    "PgBouncer": NAMES | {"client_encoding", "application_name", "datestyle", "timezone"},
    "one that knows an encoding": NAMES | {"client_encoding"},
    "one that knows a program's name": NAMES | {"application_name"},
    "one that knows nothing": NAMES,
}
"""Start-up parameters that each lets through; PgBouncer as it comes."""


class Pooler(socketserver.BaseRequestHandler):
    """Refuses start-up parameters as PgBouncer does, and else passes everything on."""

    server: Any

    def handle(self) -> None:
        while True:
            head = self.request.recv(8, socket.MSG_WAITALL)
            if len(head) < 8:
                return
            length, code = struct.unpack(">II", head)
            if code not in ENCRYPTION:
                break
            self.request.sendall(b"N")
        body = self.request.recv(length - 8, socket.MSG_WAITALL)
        names = [name.decode() for name in body.rstrip(b"\0").split(b"\0")[::2]]
        self.server.asked.append(names)
        refused = [name for name in names if name not in self.server.allowed]
        if refused:
            words = f"unsupported startup parameter: {refused[0]}".encode()
            fields = b"SFATAL\0C08P01\0M" + words + b"\0\0"
            self.request.sendall(b"E" + struct.pack(">I", len(fields) + 4) + fields)
            return
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(self.server.behind)
            behind.sendall(head + body)
            back = threading.Thread(target=pump, args=(behind, self.request))
            back.start()
            pump(self.request, behind)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has gone


@pytest.fixture
def pooled(postgres, request: pytest.FixtureRequest) -> Iterator[tuple[str, list[list[str]]]]:
    """URL of an empty database behind the pooler, and what each connection asked for."""
    direct = postgres.empty_database()
    folder = direct.rpartition("host=")[2]
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pooler) as server:
        server.behind, server.asked = f"{folder}/.s.PGSQL.5432", []  # type: ignore[attr-defined]
        server.allowed = POOLERS[getattr(request, "param", "PgBouncer")]  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_address[1]
        yield f"postgresql://gate@127.0.0.1:{port}/postgres?sslmode=disable", server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("pooled", POOLERS, indirect=True)
def test_a_pooler_that_refuses_options_is_enough(pooled, open_store: Open, record: Make) -> None:
    url, asked = pooled
    store = open_store(url)
    kept = record()
    store.append_answers([kept])
    assert store.get(kept.id) is not None
    assert asked
    assert all("options" not in names for names in asked)
    with pytest.raises(RecordsUnavailable, match="unsupported startup parameter: options"):
        open_store(f"{url}&options=-c%20geqo=off", migrated=False).page()
    store.close()


@pytest.mark.parametrize("prepared", [True, False])
def test_statements_are_prepared_unless_the_setting_says_no(
    pooled, open_store: Open, record: Make, prepared: bool
) -> None:
    store = open_store(pooled[0], prepared=prepared)
    for _ in range(8):  # the driver prepares what comes again
        store.append_answers([record()])
    with store.reading() as connection:
        names = connection.scalars(text("SELECT name FROM pg_prepared_statements")).all()
    assert bool(names) == prepared
    store.close()


def test_each_transaction_brings_its_own_time_limit(postgres, open_store: Open) -> None:
    store = open_store(postgres.empty_database())
    show = text("SHOW statement_timeout")
    with store.writing() as connection:
        assert connection.scalar(show) == "10s"
    with store.reading() as connection:
        assert connection.scalar(show) == "0"  # reports may take longer
    with store.reading(WATCH_MS) as connection:
        assert connection.scalar(show) == "1min"
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.scalar(show) == "0"  # nothing is left for who comes next
