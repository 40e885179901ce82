"""A client that hangs up: its place is freed, and nothing is computed for nobody."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from collections.abc import Iterator

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


def request_of(path: str, png: bytes, **options: object) -> bytes:
    """A question to this path, as bytes."""
    image = base64.b64encode(png).decode()
    body: dict[str, object] = {"question": "Is it whole?", "image": image}
    if path.startswith("/v1/chat"):
        url = {"url": "data:image/png;base64," + image}
        content = [{"type": "text", "text": "Is it?"}, {"type": "image_url", "image_url": url}]
        body = {"model": "fake", "messages": [{"role": "user", "content": content}]}
    key = f"Idempotency-Key: {options.pop('key')}\r\n" if "key" in options else ""
    sent = json.dumps(body | options).encode()
    kind = "application/jsonl" if path.endswith("batch") else "application/json"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{key}"
        f"Content-Length: {len(sent)}\r\n\r\n"
    )
    return head.encode() + sent


CHAT = "/v1/chat/completions"
ASKED: dict[str, tuple[str, dict[str, object]]] = {
    "answer": ("/v1/answer", {}),
    "answer with samples": ("/v1/answer", {"self_consistency": "always"}),
    "answer with evidence": ("/v1/answer", {"evidence": True}),
    "answer under a key": ("/v1/answer", {"key": "k"}),
    "chat": (CHAT, {}),
    "chat with samples": (CHAT, {"self_consistency": "always"}),
    "chat, streamed": (CHAT, {"stream": True}),
    "chat under a key": (CHAT, {"key": "k"}),
    "batch": ("/v1/answers:batch", {}),
}


@pytest.fixture
def complaints() -> Iterator[list[logging.LogRecord]]:
    """What the server and the event loop complain of."""
    found: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    keep = Keep(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(keep)
    yield found
    for logger in loggers:
        logger.removeHandler(keep)


@pytest.mark.parametrize("hold", [True, False], ids=["held", "early"])
@pytest.mark.parametrize("name", ASKED)
async def test_nothing_is_done_for_who_has_hung_up(live, engine, png, complaints, name, hold):
    path, options = ASKED[name]
    sent = request_of(path, png, **options)
    with live(max_inflight=8, stream_hold=hold, records_url="sqlite:///gone.db") as service:
        admission, port = service.gate.admission, int(service.url.rpartition(":")[2])
        service.soon(engine.hold)
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await writer.drain()
            await until(lambda: engine._open > 0)
            writer.transport.abort()
            await until(lambda: admission.inflight == 0 and admission.waiting == 0)
            assert engine._open == 0
        service.soon(engine.release)
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            listed = await client.get("/v1/answers")
            assert listed.json()["answers"] == []  # what nobody got is no answer
            metrics = (await client.get("/metrics")).text
        assert service.gate.held.total == 0
    code = "200" if path.endswith("batch") else "499"
    assert f'vlm_gate_requests_total{{code="{code}",route="{path}"}} 3.0' in metrics
    assert complaints == []


ABORTS = [150, pytest.param(5_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", ABORTS)
@pytest.mark.parametrize("path", ["/v1/answer", CHAT, "/v1/answers:batch"])
async def test_hanging_up_at_any_moment_leaves_nothing_behind(
    live, engine, png, complaints, path, count
):
    numbers = random.Random(path)
    sent = request_of(path, png, **({"stream": True} if path == CHAT else {}))
    with live(stream_hold=False, records_url="") as service:
        port = int(service.url.rpartition(":")[2])

        async def abort() -> None:
            async with few:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(sent[: numbers.choice([len(sent), numbers.randrange(len(sent))])])
                await asyncio.sleep(numbers.random() * 0.02)  # any moment
                writer.transport.abort()

        few = asyncio.Semaphore(16)
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(abort())
        admission = service.gate.admission
        await until(lambda: admission.inflight == 0 and admission.waiting == 0)
        await until(lambda: service.gate.held.total == 0 and engine._open == 0)
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            assert (await client.get("/healthz")).status_code == 200
    assert complaints == []
