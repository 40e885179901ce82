"""The service with records: every answer is kept, through outages of either database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from probes.monitor.audit import choose_audit
from service.app import create_app
from service.gate.gate import Gate
from service.records.answer import question_hash
from service.records.errors import RecordsError
from service.records.head import SigningKey
from service.records.store import RecordStore
from service.settings import Settings

pytestmark = pytest.mark.anyio
LIMIT_SECONDS = 60
Outage = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def make(engine, bundled) -> Callable[..., FastAPI]:
    """The app on a database; keyword arguments are settings."""

    def build(url: str, bundle: Any = None, **settings: Any) -> FastAPI:
        made = Settings(engine="fake", records_url=url, **settings)
        return create_app(made, engine, bundle or bundled(threshold=0.99))

    return build


@pytest.fixture
def outage(url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Outage:
    """A while in which the database takes nothing."""
    monkeypatch.setattr("service.records.database.BUSY_SECONDS", 0.05)

    @contextmanager
    def away() -> Iterator[None]:
        if url.startswith("sqlite"):
            holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                holder.close()
        else:
            server = request.getfixturevalue("postgres")
            server.stop()
            try:
                yield
            finally:
                server.start()

    return away


@pytest.fixture
def ask(png: bytes) -> Callable[..., Any]:
    async def post(client: httpx.AsyncClient, **data: str) -> httpx.Response:
        fields = {"question": "Is it whole?", **data}
        return await client.post("/v1/answer", data=fields, files={"image": png})

    return post


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop away until the writing thread has come so far."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - the other thread sets no event for it
            await asyncio.sleep(0.005)


def gate_of(app: FastAPI) -> Gate:
    gate: Gate = app.state.gate
    assert gate.record_keeping is not None
    return gate


async def test_the_record_says_what_the_caller_was_told(url, make, serving, ask, png) -> None:
    async with serving(make(url)) as client:
        told = (await ask(client, metadata='{"line": "3"}', self_consistency="always")).json()
        kept = (await client.get(f"/v1/answers/{told['id']}")).json()
        assert (await client.get("/readyz")).json()["records"]["state"] == "ok"
    for name in ("id", "answer", "decision", "reason", "bundle"):
        assert kept[name] == told[name]
    assert (kept["decision"], kept["certificate"]) == ("accept", told["certificate"]["id"])
    assert (kept["model"], kept["revision"]) == ("fake", "fake")
    assert kept["risk"] == {**told["risk"], "stage": 2}
    assert kept["signals"]["hidden_state_probe"] == told["signals"]["hidden_state_probe"]
    assert kept["signals"]["evidence"] == {"missing": "not_requested"}
    assert kept["image_sha256"] == sha256(png).hexdigest()
    assert (kept["question"], kept["question_sha256"]) == (None, question_hash("Is it whole?"))
    assert kept["metadata"] == {"line": "3"}
    assert kept["mode"] == "enforce"
    assert 0 < kept["timings"]["generate"] < kept["timings"]["total"]
    assert (kept["audit"], kept["outcomes"]) == (None, [])


async def test_the_question_is_kept_on_request_only(url, make, serving, ask) -> None:
    async with serving(make(url, records_keep_question=True)) as client:
        told = (await ask(client)).json()
        kept = (await client.get(f"/v1/answers/{told['id']}")).json()
    assert kept["question"] == "Is it whole?"


async def test_a_random_share_of_the_accepted_answers_is_audited(
    url, make, serving, ask, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef")
    app = make(url, audit_rate=0.5, audit_secret_file=secret)
    async with serving(app) as client:
        told = [(await ask(client)).json() for _ in range(24)]
        kept = [(await client.get(f"/v1/answers/{one['id']}")).json() for one in told]
    drawn = [choose_audit(one["id"], 0.5, b"0123456789abcdef").selected for one in told]
    assert 0 < sum(drawn) < 24  # both kinds: one failure in eight million runs
    for one, record, selected in zip(told, kept, drawn, strict=True):
        expected = ("escalate", "audit") if selected else ("accept", "risk_below_threshold")
        assert (one["decision"], one["reason"]) == expected
        assert (record["decision"], record["reason"]) == expected
        assert record["audit"] == {"selected": selected, "probability": 0.5}


async def test_only_accepted_answers_are_audited(url, make, serving, ask, bundled) -> None:
    async with serving(make(url, bundled(threshold=0.0), audit_rate=1.0)) as client:
        told = (await ask(client)).json()
        kept = (await client.get(f"/v1/answers/{told['id']}")).json()
    assert (told["reason"], kept["audit"]) == ("risk_above_threshold", None)


async def test_answers_go_on_through_an_outage_and_are_written_after_it(
    url, make, serving, ask, outage: Outage
) -> None:
    app = make(url)
    async with serving(app) as client:
        before = (await ask(client)).json()["id"]
        recorder = gate_of(app).record_keeping.recorder
        await until(lambda: recorder.depth == 0)
        with outage():
            during = [(await ask(client)).json()["id"] for _ in range(5)]
            await until(lambda: not recorder.healthy)
            ready = await client.get("/readyz")
        await until(lambda: recorder.depth == 0)
        again = await client.get("/readyz")
        for one in (before, *during):
            assert (await client.get(f"/v1/answers/{one}")).status_code == 200
    assert (ready.status_code, ready.json()["records"]["state"]) == (200, "failing")
    assert ready.json()["records"]["waiting"] == 5
    assert again.json()["records"] == {"state": "ok", "waiting": 0, "lost": 0}


async def test_strict_refuses_while_nothing_can_be_kept(
    url, make, serving, ask, outage: Outage, open_store
) -> None:
    app = make(url, records_strict=True)
    async with serving(app) as client:
        told = (await ask(client)).json()["id"]
        assert open_store(url, migrated=False).get(told) is not None  # at once: it is committed
        with outage():
            first = asyncio.create_task(ask(client))  # finds out, and waits for its commit
            await until(lambda: not gate_of(app).record_keeping.recorder.healthy)
            second = await ask(client)
            ready = await client.get("/readyz")
        await until(lambda: gate_of(app).record_keeping.recorder.accepting)
        assert (await first).status_code == 200
        after = await ask(client)
    assert (second.status_code, second.json()["type"]) == (
        503,
        "urn:vlm-gate:problem:records_unavailable",
    )
    assert second.headers["retry-after"] == "5"
    assert (ready.status_code, ready.json()["state"]) == (503, "records_unavailable")
    assert after.status_code == 200


async def test_what_is_lost_is_counted(url, make, serving, ask, outage: Outage) -> None:
    app = make(url)
    async with serving(app) as client:
        with outage():
            assert [(await ask(client)).status_code for _ in range(3)] == [200] * 3
            await until(lambda: not gate_of(app).record_keeping.recorder.healthy)
            await gate_of(app).record_keeping.recorder.close()
            metrics = (await client.get("/metrics")).text
    assert "vlm_gate_records_dropped_total 3.0" in metrics


async def test_images_of_answers_that_were_not_accepted_are_kept(
    make, serving, ask, bundled, png, tmp_path: Path
) -> None:
    url, images = f"sqlite:///{tmp_path / 'r.db'}", tmp_path / "images"
    async with serving(make(url, images_url=str(images))) as client:
        assert (await ask(client)).json()["decision"] == "accept"
    assert not images.exists()
    async with serving(make(url, bundled(threshold=0.0), images_url=str(images))) as client:
        assert (await ask(client)).json()["decision"] == "escalate"
    assert [path.read_bytes() for path in images.glob("*/*")] == [png]


async def test_old_records_are_deleted_at_the_start(url, make, serving, open_store, record) -> None:
    store: RecordStore = open_store(url)
    now = datetime.now(UTC)
    old, young = (record(created=now - timedelta(days=days)) for days in (8, 6))
    store.append_answers([old, young])
    async with serving(make(url, records_retention_days=7)) as client:
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await client.get(f"/v1/answers/{old.id}")).status_code == 200:
                pass
        assert (await client.get(f"/v1/answers/{young.id}")).status_code == 200


@pytest.mark.parametrize("content", ["", "no key"])
async def test_a_bad_key_stops_the_start(make, tmp_path: Path, content: str) -> None:
    bad = tmp_path / "key.pem"
    bad.write_text(content)
    with pytest.raises(RecordsError, match="signing key"):
        make(f"sqlite:///{tmp_path / 'r.db'}", records_key_file=bad)
    with pytest.raises(RecordsError, match="AUDIT_SECRET_FILE"):
        make(f"sqlite:///{tmp_path / 'r.db'}", audit_rate=0.1, audit_secret_file=bad)


def test_replicas_share_the_key_and_the_secret(make, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    keys = [gate_of(make(url, audit_rate=0.1)).record_keeping.store.key.id for _ in range(2)]
    state = tmp_path / "vlm-gate-state"
    assert set(keys) == {SigningKey.load_or_create(state / "signing-key.pem").id}
    assert len((state / "audit-secret").read_bytes()) == 32
    assert (state / "audit-secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "settings", [{"records_strict": True}, {"audit_rate": 0.1}, {"images_url": "x"}]
)
def test_what_needs_records_refuses_without(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="VLM_GATE_RECORDS_URL"):
        Settings(records_url="", **settings)
