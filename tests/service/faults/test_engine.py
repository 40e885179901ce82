"""The engine fails, or hangs, among requests over a real socket."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from service.engines.base import EngineError

pytestmark = pytest.mark.anyio
QUESTION = {"question": "Is it whole?"}


async def test_an_exception_is_a_503_and_the_next_is_answered(live, engine, png) -> None:
    async def broken(query, readout):
        raise ZeroDivisionError("a bug in an engine")

    with live(records_url="") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:

            async def ask() -> httpx.Response:
                return await client.post("/v1/answer", data=QUESTION, files={"image": png})

            engine.failure = EngineError("out of memory")
            told = await asyncio.gather(*(ask() for _ in range(20)))
            engine.failure = None
            again = await ask()
            good, engine.generate = engine.generate, broken
            bug = await ask()
            engine.generate = good
            last = await ask()
        assert service.gate.admission.inflight == 0
    assert {reply.status_code for reply in told} == {503}
    assert all(reply.json()["type"].endswith("engine_error") for reply in told)
    assert all(int(reply.headers["retry-after"]) > 0 for reply in told)
    assert "out of memory" not in told[0].text  # it is for the log
    assert (again.status_code, bug.status_code, last.status_code) == (200, 500, 200)
    assert "a bug in an engine" not in bug.text


async def test_a_hang_is_found_out_among_many(live, engine, png) -> None:
    settings = {"engine_timeout_seconds": 1, "max_inflight": 8, "records_url": ""}
    with live(**settings) as service:
        service.soon(engine.hold)
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            asked = [
                client.post("/v1/answer", data=QUESTION, files={"image": png}) for _ in range(40)
            ]
            told = await asyncio.gather(*asked)
            live_code = (await client.get("/healthz")).status_code
        assert service.gate.admission.inflight == 0
    assert {reply.status_code for reply in told} == {503}
    kinds = {reply.json()["type"].rpartition(":")[2] for reply in told}
    assert kinds <= {"engine_error", "engine_hung"}
    assert "engine_error" in kinds
    assert live_code == 503
