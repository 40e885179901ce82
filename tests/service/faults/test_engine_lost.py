"""The engine is gone for good: everybody is told, what was answered is kept, the process ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.engines.base import EngineError
from service.http.server import Server
from service.settings import Settings

pytestmark = pytest.mark.anyio
PROGRAM = (str(Path(__file__).with_name("mortal.py")),)
WAITING = 6


@pytest.mark.parametrize("end", ["die", "hang"])
async def test_the_process_ends_with_1_and_the_records_are_kept(
    start, png, recorded, tmp_path, end
) -> None:
    settings = {"engine_exit_seconds": 3}
    if end == "hang":
        settings["engine_timeout_seconds"] = 3  # a call that does not hang takes milliseconds
    told: Counter[tuple[int, str]] = Counter()
    ids: list[str] = []
    with start(program=PROGRAM, **settings) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:

            async def ask(question: str) -> None:
                data = {"question": question}
                reply = await client.post("/v1/answer", data=data, files={"image": png})
                if reply.status_code == 200:
                    ids.append(reply.json()["id"])
                else:
                    told[reply.status_code, reply.json()["type"].rpartition(":")[2]] += 1

            await asyncio.gather(*(ask(f"Is part {number} whole?") for number in range(20)))
            async with asyncio.TaskGroup() as group:
                for _ in range(WAITING):
                    group.create_task(ask("wait"))
                if end == "die":
                    inside = f"vlm_gate_inflight_requests {WAITING}.0"
                    async with asyncio.timeout(60):
                        while inside not in (await client.get("/metrics")).text:
                            pass
                    group.create_task(ask("die"))
            ready = await client.get("/readyz")
            metrics = (await client.get("/metrics")).text
        assert await asyncio.to_thread(running.process.wait, 60) == 1
    assert len(ids) == 20
    assert told == {(503, "engine_error"): WAITING + (end == "die")}
    assert (ready.status_code, ready.json()["state"]) == (503, "failed")
    assert "vlm_gate_engine_healthy 0.0" in metrics
    assert recorded(f"sqlite:///{tmp_path / 'state' / 'records.db'}") == sorted(ids)
    assert any('"event": "engine_lost"' in line for line in running.log)
    assert any("error: the engine has failed" in line for line in running.log)
    assert not any("Traceback" in line for line in running.log)


async def test_an_engine_that_recovers_ends_nothing(engine, bundled, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr("service.http.server.time.monotonic", lambda: now)
    settings = Settings(engine="fake", records_url="", decode_processes=0, engine_exit_seconds=20)
    server = Server(create_app(settings, engine, bundled()), settings)
    server.config.load()
    await engine.start()
    for failure, seconds in ((EngineError("gone"), 19), (None, 60), (EngineError("gone"), 19)):
        engine.failure = failure
        assert not await server.on_tick(1)
        now += seconds
        assert not await server.on_tick(1)
    now += 1
    assert await server.on_tick(1)
    assert server.engine_lost
    await server.gate.close()
