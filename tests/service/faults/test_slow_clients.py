"""Clients that dribble: cut off in time, and no other client notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from service.http import connection as http_protocol

pytestmark = pytest.mark.anyio
SHORT_SECONDS = 0.3
QUESTION = {"question": "Is it whole?"}
POST = b"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
DRIBBLES = {
    "nothing": b"",
    "a line end": b"\r\n",
    "half a head": POST,
    "an endless header": POST + b"X: ",
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(http_protocol, "REST_SECONDS", SHORT_SECONDS)


class Dribbler:
    """A connection that sends something, then a byte now and then for as long as it may."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])

    async def send(self, first: bytes, then: bytes = b"a") -> bytes:
        """All that comes back until the service closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(first)
        dribble = asyncio.create_task(self._go_on(writer, then))
        try:
            async with asyncio.timeout(30):
                return await _rest(reader)
        finally:
            dribble.cancel()
            writer.close()

    async def _go_on(self, writer: asyncio.StreamWriter, byte: bytes) -> None:
        while byte:
            await asyncio.sleep(SHORT_SECONDS / 10)
            writer.write(byte)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    got = b""
    try:
        while piece := await reader.read(65536):
            got += piece
    except ConnectionResetError:
        pass  # closed while we still sent
    return got


@pytest.fixture
async def answers(live, png) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A service with few places, and a well-behaved client."""
    with live(max_inflight=1, max_queue=0, deadline_seconds=2, records_url="") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            yield service.url, client


async def test_heads_that_do_not_come_are_cut_off_and_others_are_answered(answers, png) -> None:
    url, client = answers
    slow = [
        asyncio.create_task(Dribbler(url).send(first, b"" if name in ("nothing",) else b"a"))
        for name, first in DRIBBLES.items()
        for _ in range(50)
    ]
    codes = set()
    while not all(task.done() for task in slow):
        told = await client.post("/v1/answer", data=QUESTION, files={"image": png})
        codes.add(told.status_code)
    assert codes == {200}
    replies = {task.result()[:12] for task in slow}
    assert replies <= {b"", b"HTTP/1.1 408", b"HTTP/1.1 400"}
    assert b"HTTP/1.1 408" in replies


async def test_a_body_that_does_not_come_ends_at_the_deadline_and_frees_its_place(
    answers, png
) -> None:
    url, client = answers
    head = POST + b"Content-Length: 5000\r\nX-Request-Timeout: 0.5\r\n\r\n{"
    told = await Dribbler(url).send(head)
    assert told.startswith(b"HTTP/1.1 504")
    after = await client.post("/v1/answer", data=QUESTION, files={"image": png})
    assert after.status_code == 200


async def test_a_refused_body_that_goes_on_for_ever_is_cut_off(answers) -> None:
    url, _ = answers
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    told = await Dribbler(url).send(head)
    assert told.startswith(b"HTTP/1.1 404")


async def test_a_head_without_end_is_refused(answers) -> None:
    url, client = answers
    told = await Dribbler(url).send(POST + b"X: ", b"a" * 100_000)
    assert told == b"" or told.startswith(b"HTTP/1.1 400")
    assert (await client.get("/healthz")).status_code == 200
