from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from service.records.answer import AnswerRecord
from service.records.errors import RecordsUnavailable
from service.records.head import SigningKey
from service.records.recorder import Recorder
from service.records.store import RecordStore
from service.records.verify import verify

Make = Callable[..., AnswerRecord]
Open = Callable[..., RecordStore]
LIMIT_SECONDS = 60


class Losses:
    """What the recorder told of its losses."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def __call__(self, count: int, reason: str) -> None:
        self.told.append((count, reason))


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop away until the writing thread has come so far."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - the other thread sets no event for it
            await asyncio.sleep(0.001)


def count(store: RecordStore) -> int:
    report = verify(store)
    assert report.ok, report.problems
    return report.rows


def test_what_is_submitted_is_written(url: str, open_store: Open, record: Make) -> None:
    store = open_store(url, migrated=False)
    records = [record(question="Is it red?") for _ in range(250)]

    async def run() -> None:
        recorder = Recorder(store)
        await recorder.start()
        assert [recorder.submit(one) for one in records] == [True] * 250
        assert await asyncio.to_thread(recorder.drained, LIMIT_SECONDS)
        assert (recorder.depth, recorder.lost, recorder.healthy) == (0, 0, True)
        assert recorder.accepting
        await recorder.close()
        assert not recorder.accepting
        assert not recorder.submit(records[0])
        assert recorder.lost == 1

    asyncio.run(run())
    assert count(store) == 250
    kept = store.get(records[0].id)
    assert kept is not None
    assert (kept.question, kept.question_sha256) == (None, records[0].question_sha256)


def test_the_question_is_kept_on_request(store: RecordStore, record: Make) -> None:
    one = record(question="Is it red?")

    async def run() -> None:
        recorder = Recorder(store, keep_question=True)
        await recorder.start()
        assert await recorder.submit_and_wait(one)
        await recorder.close()

    asyncio.run(run())
    assert store.get(one.id) == one


def test_who_waits_is_told_after_the_commit(store: RecordStore, record: Make) -> None:
    async def run() -> None:
        recorder = Recorder(store)
        await recorder.start()

        async def one() -> None:
            mine = record()
            assert await recorder.submit_and_wait(mine)
            assert await asyncio.to_thread(store.get, mine.id) == mine

        await asyncio.gather(*(one() for _ in range(30)))
        await recorder.close()

    asyncio.run(run())
    assert count(store) == 30


def test_one_bad_record_does_not_take_others_along(store: RecordStore, record: Make) -> None:
    losses = Losses()

    async def run() -> list[bool]:
        recorder = Recorder(store, on_lost=losses)
        twin = record()
        batch = [record(), record(risk=float("nan")), twin, twin, record()]
        told = asyncio.gather(*(recorder.submit_and_wait(one) for one in batch))
        await asyncio.sleep(0)  # all five are queued before the writer starts
        await recorder.start()
        answer = await told
        await recorder.close()
        return answer

    assert asyncio.run(run()) == [True, False, True, False, True]
    assert losses.told == [(1, "unwritable"), (1, "unwritable")]
    assert count(store) == 3


def test_a_mistake_in_the_writer_leaves_nobody_waiting(
    store: RecordStore, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "append_answers", broken)

    async def run() -> None:
        losses = Losses()
        recorder = Recorder(store, on_lost=losses)
        await recorder.start()
        assert not await recorder.submit_and_wait(record())
        assert not recorder.healthy
        assert not recorder.accepting
        assert losses.told == [(1, "writer_failed")]
        await recorder.close()

    asyncio.run(run())


def test_a_hanging_database_is_not_healthy(
    store: RecordStore, record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.recorder.STALL_SECONDS", 0.0)
    inside, go_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        inside.set()
        go_on.wait(LIMIT_SECONDS)

    monkeypatch.setattr(store, "append_answers", hang)

    async def run() -> None:
        recorder = Recorder(store, strict=True)
        await recorder.start()
        recorder.submit(record())
        await until(inside.is_set)
        assert not recorder.healthy
        assert not recorder.accepting
        assert not await asyncio.to_thread(recorder.drained, 0.01)
        go_on.set()
        assert await asyncio.to_thread(recorder.drained, LIMIT_SECONDS)
        await recorder.close()

    asyncio.run(run())


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another process's long transaction, seen from here."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def outage(store: RecordStore, record: Make, broken: Any, *, strict: bool) -> Losses:
    """Two answers before, four during (the queue holds three), one after."""
    losses = Losses()

    async def run() -> None:
        recorder = Recorder(store, capacity=3, strict=strict, on_lost=losses)
        await recorder.start()
        assert await recorder.submit_and_wait(record())
        assert await recorder.submit_and_wait(record())
        with broken:
            assert recorder.submit(record())
            await until(lambda: not recorder.healthy)
            assert recorder.accepting != strict
            assert recorder.submit(record())
            waiting = asyncio.create_task(recorder.submit_and_wait(record()))
            await until(lambda: recorder.depth == 3)
            assert not recorder.accepting
            assert not recorder.submit(record())
            assert not waiting.done()
        assert await waiting
        assert recorder.healthy
        assert recorder.accepting
        assert await recorder.submit_and_wait(record())
        await recorder.close()

    asyncio.run(run())
    return losses


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice a lock at once."""
    monkeypatch.setattr("service.records.database.BUSY_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("strict", [False, True])
def test_a_locked_sqlite_is_waited_for(
    tmp_path: Path, open_store: Open, record: Make, strict: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    store = open_store(url)
    losses = outage(store, record, locked(url), strict=strict)
    assert losses.told == [(1, "queue_full")]
    assert count(store) == 6


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_postgresql_stopped_and_started_again(
    postgres: Any, open_store: Open, record: Make, mode: str
) -> None:
    store = open_store(postgres.empty_database())

    @contextmanager
    def stopped() -> Iterator[None]:
        postgres.stop(mode)
        try:
            yield
        finally:
            postgres.start()

    losses = outage(store, record, stopped(), strict=True)
    assert losses.told == [(1, "queue_full")]
    assert count(store) == 6


def test_a_full_database_is_waited_for(tmp_path: Path, open_store: Open, record: Make) -> None:
    """SQLite says the same of a full disk as of its own page limit."""
    store = open_store(f"sqlite:///{tmp_path / 'records.db'}")
    pages = {"most": 1_000_000}

    @event.listens_for(store.engine, "checkout")
    def limit(connection: Any, _: object, __: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages['most']}")

    async def run() -> None:
        recorder = Recorder(store)
        await recorder.start()
        assert await recorder.submit_and_wait(record())
        pages["most"] = 1  # SQLite takes the present size instead
        many = [record(answer="x" * 5000) for _ in range(20)]
        assert [recorder.submit(one) for one in many] == [True] * 20
        await until(lambda: not recorder.healthy)
        pages["most"] = 1_000_000
        assert await asyncio.to_thread(recorder.drained, LIMIT_SECONDS)
        assert (recorder.healthy, recorder.lost) == (True, 0)
        await recorder.close()

    asyncio.run(run())
    assert count(store) == 21


def test_a_full_disk_is_waited_for(tmp_path: Path, open_store: Open, record: Make) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here; the page limit above stands for it")
    try:
        store = open_store(f"sqlite:///{disk / 'records.db'}")
        asyncio.run(_fill_and_free(store, disk / "ballast", record))
        assert count(store) == 101
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill(ballast: Path) -> None:
    """Write until the disk takes no more."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


async def _fill_and_free(store: RecordStore, ballast: Path, record: Make) -> None:
    recorder = Recorder(store)
    await recorder.start()
    assert await recorder.submit_and_wait(record())
    await asyncio.to_thread(_fill, ballast)
    many = [record(answer="x" * 2000) for _ in range(100)]
    assert [recorder.submit(one) for one in many] == [True] * 100
    await until(lambda: not recorder.healthy)
    await asyncio.to_thread(ballast.unlink)
    assert await asyncio.to_thread(recorder.drained, LIMIT_SECONDS)
    assert (recorder.healthy, recorder.lost) == (True, 0)
    await recorder.close()


def test_a_database_that_is_away_from_the_start(
    tmp_path: Path, open_store: Open, record: Make
) -> None:
    """Answers go on, closing does not hang, and the losses are counted."""
    folder = tmp_path / "later"
    store = open_store(f"sqlite:///{folder / 'records.db'}", migrated=False)
    losses = Losses()

    async def run(*, comes: bool) -> None:
        recorder = Recorder(store, on_lost=losses)
        await recorder.start()
        assert recorder.submit(record())
        assert not recorder.healthy
        if comes:
            folder.mkdir()
            assert await asyncio.to_thread(recorder.drained, LIMIT_SECONDS)
        await recorder.close()

    asyncio.run(run(comes=False))
    assert losses.told == [(1, "closed")]
    with pytest.raises(RecordsUnavailable):
        store.get("anything")
    asyncio.run(run(comes=True))
    assert losses.told == [(1, "closed")]
    assert count(store) == 1


WRITES_UNTIL_KILLED = """
import asyncio, runpy, sys
from pathlib import Path
from service.records.head import SigningKey
from service.records.recorder import Recorder
from service.records.store import RecordStore

answered = runpy.run_path(sys.argv[3])["answered"]

async def client(recorder):
    while True:
        mine = answered()
        if await recorder.submit_and_wait(mine):
            sys.stdout.write(mine.id + "\\n")
            sys.stdout.flush()

async def main():
    key = SigningKey.load_or_create(Path(sys.argv[2]))
    recorder = Recorder(RecordStore(sys.argv[1], writer="one", key=key))
    await recorder.start()
    await asyncio.gather(*(client(recorder) for _ in range(50)))

asyncio.run(main())
"""


def test_kill_9_loses_no_acknowledged_answer(url: str, tmp_path: Path, open_store: Open) -> None:
    """Twice, as the second life has to go on with the chain of the first."""
    key_file = tmp_path / "key.pem"
    makes_records = Path(__file__).with_name("line.py")
    command = [sys.executable, "-c", WRITES_UNTIL_KILLED, url, str(key_file), str(makes_records)]
    acknowledged: list[str] = []
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(300):
                acknowledged.append(process.stdout.readline().strip())
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
        assert process.returncode == -signal.SIGKILL
    store = open_store(url, key=SigningKey.load_or_create(key_file))
    missing = [one for one in acknowledged if store.get(one) is None]
    assert missing == []
    assert len(set(acknowledged)) == len(acknowledged) >= 600
    assert count(store) >= len(acknowledged)
