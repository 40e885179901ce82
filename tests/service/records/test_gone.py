"""A database that is taken away while it is used, or cannot be written from the start."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.gate.record_keeping import RecordKeeping
from service.observe.telemetry import Telemetry
from service.records import database_file
from service.records.answer import AnswerRecord
from service.records.database_file import DatabaseFile
from service.records.errors import RecordsError, RecordsUnavailable
from service.records.recorder import Recorder
from service.records.store import RecordStore
from service.settings import Settings

Open = Callable[..., RecordStore]
Make = Callable[..., AnswerRecord]
Taking = Callable[[Path], object]


def replaced(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


def copied(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def cut(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share) // 4096 * 4096)


def all_three(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink()


def away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def back(path: Path) -> None:
    path.with_name("elsewhere").rename(path)


def linked(path: Path) -> None:
    away(path)
    path.symlink_to("nowhere")


TAKEN: dict[str, tuple[Taking, str]] = {
    "deleted": (Path.unlink, "deleted or moved"),
    "deleted with its log": (all_three, "deleted or moved"),
    "moved away": (away, "deleted or moved"),
    "folder removed": (lambda path: shutil.rmtree(path.parent), "deleted or moved"),
    "folder moved": (lambda path: path.parent.rename(f"{path.parent}-old"), "deleted or moved"),
    "a dead link": (linked, "deleted or moved"),
    "an empty file": (lambda path: replaced(path, b""), "replaced by another"),
    "another file": (lambda path: replaced(path, b"no database" * 999), "replaced by another"),
    "its own copy": (copied, "replaced by another"),
    "emptied": (lambda path: cut(path, 0.0), "was cut from"),
    "cut to half": (lambda path: cut(path, 0.5), "was cut from"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "records.db"


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_away_is_told(name: str, path: Path, open_store: Open, record: Make) -> None:
    take, message = TAKEN[name]
    store = open_store(f"sqlite:///{path}")
    store.append_answers([record() for _ in range(20)])
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    store.append_answers([record()])
    assert store.there
    take(path)
    assert not store.there
    for _ in range(2):  # it is no matter of one connection
        with pytest.raises(RecordsUnavailable, match=message):
            store.append_answers([record()])
        with pytest.raises(RecordsUnavailable, match=message):
            store.page()
    if message == "deleted or moved":
        assert not path.exists()  # no empty one is made in its place


def test_what_was_committed_to_a_lost_file_is_not_kept(
    path: Path, open_store: Open, record: Make
) -> None:
    store = open_store(f"sqlite:///{path}")
    store.append_answers([record()])
    with pytest.raises(RecordsUnavailable, match="deleted or moved"), store.writing():
        path.unlink()  # between the look at the file and the commit


def test_a_file_that_comes_back_gets_what_waited(
    path: Path, open_store: Open, record: Make
) -> None:
    store = open_store(f"sqlite:///{path}")
    recorder = Recorder(store, strict=True)
    kept = [record() for _ in range(3)]

    async def scenario() -> None:
        await recorder.start()
        assert await recorder.submit_and_wait(kept[0])
        assert recorder.healthy
        away(path)
        assert not recorder.healthy  # before anything is written
        assert not recorder.accepting
        waiting = [asyncio.ensure_future(recorder.submit_and_wait(one)) for one in kept[1:]]
        recorder.tried.clear()
        assert await asyncio.to_thread(recorder.tried.wait, 60)
        assert not any(one.done() for one in waiting)
        back(path)
        assert all(await asyncio.gather(*waiting))
        assert recorder.healthy
        await recorder.close()

    asyncio.run(scenario())
    assert recorder.lost == 0
    assert {one.id for one in store.page().answers} == {one.id for one in kept}


def test_a_log_that_is_deleted_loses_nothing(path: Path, open_store: Open, record: Make) -> None:
    store = open_store(f"sqlite:///{path}")
    kept = [record() for _ in range(3)]
    store.append_answers(kept[:1])
    Path(f"{path}-wal").unlink()
    with pytest.raises(RecordsUnavailable, match=r"records\.db-wal was deleted"):
        store.append_answers(kept[1:2])
    store.append_answers(kept[1:2], again=True)
    store.append_answers(kept[2:])
    assert {one.id for one in store.page().answers} == {one.id for one in kept}


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "strict"), [("deleted", False), ("an empty file", True)])
async def test_the_service_says_so(
    name: str, strict: bool, path: Path, tmp_path: Path, engine, bundled, serving, png: bytes
) -> None:
    from service.app import create_app

    settings = Settings(
        engine="fake",
        records_url=f"sqlite:///{path}",
        records_strict=strict,
        state_folder=tmp_path / "keys",
    )

    async def ask(client: httpx.AsyncClient) -> int:
        answered = await client.post(
            "/v1/answer", data={"question": "Is it whole?"}, files={"image": png}
        )
        return answered.status_code

    async with serving(create_app(settings, engine, bundled(threshold=0.99))) as client:
        assert await ask(client) == 200
        TAKEN[name][0](path)
        assert await ask(client) == (503 if strict else 200)
        ready = await client.get("/readyz")
        assert ready.status_code == (503 if strict else 200)
        told: dict[str, Any] = ready.json()["records"]
        assert told["state"] == "failing"
        if not strict:
            assert told["waiting"] >= 1
            metrics = (await client.get("/metrics")).text
            assert "vlm_gate_records_failing 1.0" in metrics


def unwritable(path: Path) -> None:
    raise OSError(30, "Read-only file system", str(path))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path, patch: path.parent.rmdir(), "No such file or directory"),
        (lambda path, patch: path.mkdir(), "cannot be written"),
        (
            lambda path, patch: patch.setattr(
                database_file.tempfile, "TemporaryFile", lambda dir: unwritable(dir)
            ),
            "Read-only file system",
        ),
        (
            lambda path, patch: (
                path.touch(),
                patch.setattr(database_file.os, "access", lambda *_: False),
            ),
            "cannot be written",
        ),
        (lambda path, patch: (path.parent.rmdir(), path.parent.touch()), "Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_written_ends_the_start(
    break_it: Callable[[Path, pytest.MonkeyPatch], object],
    message: str,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(records_url=f"sqlite:///{path}", state_folder=tmp_path / "keys")
    break_it(path, monkeypatch)
    with pytest.raises(RecordsError, match=message) as caught:
        RecordKeeping(settings, Telemetry({}))
    assert str(path) in str(caught.value)
    assert "can be written" in str(caught.value)


def test_a_full_disk_may_have_room_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dir: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(database_file.tempfile, "TemporaryFile", full)
    DatabaseFile(path).check_folder()
