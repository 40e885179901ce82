"""A client that hangs up: its place is freed, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio

import httpx
import pytest

pytestmark = pytest.mark.anyio
QUESTION = {"question": "Is it whole?"}


async def until(condition) -> None:
    """Wait for the service's thread to come so far."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - another thread sets no event for it
            await asyncio.sleep(0.005)


async def test_who_leaves_the_engine_or_the_queue_frees_the_place(live, engine, png) -> None:
    with live(max_inflight=1, max_queue=1, records_url="") as service:
        admission = service.gate.admission
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:

            def ask(number: int) -> asyncio.Task[httpx.Response]:
                data = {"question": f"Is part {number} whole?"}
                return asyncio.create_task(
                    client.post("/v1/answer", data=data, files={"image": png})
                )

            service.soon(engine.hold)
            generating = ask(1)
            await until(lambda: engine._open == 1)
            queued = ask(2)
            await until(lambda: admission.waiting == 1)
            queued.cancel()
            await until(lambda: admission.waiting == 0)
            assert admission.inflight == 1
            generating.cancel()
            await until(lambda: admission.inflight == 0)
            assert engine._open == 0  # what it did for it is given up
            service.soon(engine.release)
            assert (await ask(3)).status_code == 200
            metrics = (await client.get("/metrics")).text
    assert 'vlm_gate_rejected_requests_total{reason="client_gone"} 2.0' in metrics
    assert 'vlm_gate_requests_total{code="499",route="/v1/answer"} 2.0' in metrics
