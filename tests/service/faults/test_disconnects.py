"""A client that hangs up: its place is freed, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest

pytestmark = pytest.mark.anyio


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


async def test_a_batch_whose_caller_leaves_frees_its_places(live, engine, png) -> None:
    image = base64.b64encode(png).decode()
    lines = [json.dumps({"question": f"Is part {n} whole?", "image": image}) for n in range(8)]
    with live(max_inflight=3, batch_concurrency=2, records_url="") as service:
        admission = service.gate.admission
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            service.soon(engine.hold)
            headers = {"content-type": "application/jsonl"}
            batch = asyncio.create_task(
                client.post("/v1/answers:batch", content="\n".join(lines), headers=headers)
            )
            await until(lambda: engine._open == 2)
            batch.cancel()
            await until(lambda: admission.inflight == 0 and admission.waiting == 0)
            assert engine._open == 0  # what it did for it is given up, the rest is not begun
            service.soon(engine.release)
            data = {"question": "Is it whole?"}
            one = await client.post("/v1/answer", data=data, files={"image": png})
            again = await client.post("/v1/answers:batch", content=lines[0], headers=headers)
    assert one.status_code == 200
    assert again.json()["answer"]  # the places of batches are free too
