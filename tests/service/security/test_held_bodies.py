"""Bodies that are held or on their way: bounded for each caller and in all, and fair."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.key_file import new_key, save_keys, utc_now
from service.app import create_app
from service.errors import Overloaded
from service.gate.admission import Admission
from service.gate.arrival import SLOW_SECONDS, HeldBytes
from service.settings import Settings

pytestmark = pytest.mark.anyio
MIB = 2**20
LIMIT_SECONDS = 30


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def awaited(held: HeldBytes, caller: str, size: int) -> tuple[Any, asyncio.Task[None]]:
    """A body of which so much has come, and the task that waits for the rest."""
    arrival, begun = held.open(caller), asyncio.Event()

    async def wait() -> None:
        async with arrival.awaiting():
            held.grow(arrival, size)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await begun.wait()
    return arrival, task


async def test_no_caller_holds_more_than_its_share():
    held = HeldBytes(100, 40)
    with held.body("a") as one, held.body("a") as two, held.body("b") as other:
        held.grow(one, 30)
        with pytest.raises(Overloaded, match="this caller"):
            held.grow(two, 11)
        held.grow(two, 10)
        held.grow(other, 40)
        assert held.total == 80
    assert held.total == 0


async def test_all_callers_together_hold_no_more_than_all():
    held = HeldBytes(100, 60)
    with held.body("a") as one, held.body("b") as two:
        held.grow(one, 60)
        with pytest.raises(Overloaded, match="bodies that are here"):
            held.grow(two, 41)
        held.grow(two, 40)


async def test_a_body_of_who_holds_most_gives_way():
    held = HeldBytes(100, 60)
    _, victim = await awaited(held, "a", 25)
    _, kept = await awaited(held, "a", 35)
    with held.body("b") as other:
        held.grow(other, 50)
        with pytest.raises(Overloaded, match="send fewer"):
            await victim
        assert not kept.done()
        assert held.total == 85
    kept.cancel()


@pytest.mark.parametrize("caller", ["a", "b"])
async def test_a_slow_body_gives_way_even_to_its_own_caller(caller):
    clock = Clock()
    held = HeldBytes(40, 40, clock)
    _, slow = await awaited(held, "a", 30)
    with held.body(caller) as other:
        with pytest.raises(Overloaded):
            held.grow(other, 30)
        clock.now += SLOW_SECONDS + 0.1
        held.grow(other, 30)
        with pytest.raises(Overloaded):
            await slow


@pytest.mark.parametrize("newcomer", ["b", "a"])
async def test_a_body_on_its_way_loses_its_place(newcomer):
    clock = Clock()
    admission, held = Admission(1, 3), HeldBytes(100, 100, clock)
    places, lost = [], []
    for size in (3, 1, 2, 4):
        arrival, task = await awaited(held, "a", size)
        place = admission.place("a", arrival=arrival)
        place.__enter__()
        places.append(place)
        lost.append(task)
    if newcomer == "a":  # its own, and nothing slow: no
        with pytest.raises(Overloaded), admission.place("a"):
            pass
        clock.now += SLOW_SECONDS + 0.1
    with admission.place(newcomer):
        with pytest.raises(Overloaded, match="on its way"):
            await lost[1]  # the slowest
        assert [task.done() for task in lost] == [False, True, False, False]
    for task in lost:
        task.cancel()
    for place in places:
        place.__exit__(None, None, None)


async def test_a_batch_takes_no_place_of_a_body_that_is_not_slow():
    admission, held = Admission(1, 3), HeldBytes(100, 100)
    arrival, task = await awaited(held, "a", 1)
    with admission.place("a", arrival=arrival), admission.place("a"), admission.place("a"):
        batch = admission.place("b", batch=True)
        with admission.place("a"), pytest.raises(Overloaded):
            batch.__enter__()
    task.cancel()


def test_the_settings_leave_room_for_one_body(engine, bundled):
    settings = Settings(
        engine="fake", records_url="", max_held_bytes=MIB, max_held_bytes_per_caller=MIB
    )
    held = create_app(settings, engine, bundled()).state.gate.held
    with held.body("a") as arrival:
        held.grow(arrival, settings.max_body_bytes)
        with pytest.raises(Overloaded):
            held.grow(arrival, 1)


class Half:
    """A request whose body is begun and not ended."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key

    async def send(self, kind: str, number: int, body: bytes) -> None:
        path, more = KINDS[kind]
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n"
            f"Authorization: Bearer {self._key}\r\n{more.format(number=number)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def refused(self) -> None:
        """Wait for a 503: of the request, or of the line of a batch, which has said 200 before."""
        async with asyncio.timeout(LIMIT_SECONDS):
            told = b""
            while b"503" not in told:
                told += await self._reader.readline()

    def close(self) -> None:
        self._writer.close()


JSON = "Content-Type: application/json"
KINDS: dict[str, tuple[str, str]] = {
    "json": ("/v1/answer", JSON),
    "json, by the short path": ("/answer", JSON),
    "a form": ("/v1/answer", "Content-Type: multipart/form-data; boundary=x"),
    "chat": ("/v1/chat/completions", JSON),
    "under a key": ("/v1/answer", JSON + "\r\nIdempotency-Key: {number}"),
    "chat under a key": ("/v1/chat/completions", JSON + "\r\nIdempotency-Key: {number}"),
    "a batch": ("/v1/answers:batch", "Content-Type: application/jsonl"),
}
"""Path and headers."""


@pytest.fixture
def two_keys(keys_file: Path) -> tuple[Path, str, str]:
    """Their file, and both."""
    made = [new_key(name, ("answer",), utc_now()) for name in "ab"]
    save_keys(keys_file, [kept for _, kept in made])
    return keys_file, made[0][0], made[1][0]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the service's thread to come so far."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - another thread sets no event for it
            await asyncio.sleep(0.005)


async def ask(url: str, key: str, png: bytes, times: int) -> list[int]:
    """A question again and again; the statuses."""
    body = {"question": "Is it whole?", "image": base64.b64encode(png).decode()}
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT_SECONDS) as client:
        headers = {"authorization": f"Bearer {key}"}
        return [
            (await client.post("/v1/answer", json=body, headers=headers)).status_code
            for _ in range(times)
        ]


@pytest.mark.parametrize("kind", KINDS)
async def test_half_sent_bodies_of_one_key_keep_no_other_key_out(live, two_keys, png, kind):
    file, greedy, other = two_keys
    with live(max_inflight=2, max_queue=4, records_url="", api_keys_file=file) as service:
        halves = [Half(int(service.url.rpartition(":")[2]), greedy) for _ in range(12)]
        for number, half in enumerate(halves):
            await half.send(kind, number, b'{"question": "')
        assert await ask(service.url, other, png, 8) == [200] * 8
        for half in halves:
            half.close()
        await until(lambda: service.gate.held.total == 0 and service.gate.admission.waiting == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_one_key_holds_are_bounded(live, two_keys, png, kind):
    """Places would be enough for all ten; bytes are for six."""
    file, greedy, other = two_keys
    settings = {"max_held_bytes": 24 * MIB, "max_held_bytes_per_caller": 12 * MIB}
    with live(
        max_inflight=4, max_queue=40, max_image_bytes=4 * MIB, records_url="", api_keys_file=file,
        **settings,
    ) as service:  # fmt: skip
        halves = [Half(int(service.url.rpartition(":")[2]), greedy) for _ in range(10)]
        for number, half in enumerate(halves):
            await half.send(kind, number, b"a" * (2 * MIB))
        told = [asyncio.ensure_future(half.refused()) for half in halves]
        await until(lambda: sum(one.done() for one in told) >= 4)
        assert all(one.exception() is None for one in told if one.done())
        assert 4 * MIB <= service.gate.held.total <= 12 * MIB
        assert await ask(service.url, other, png, 1) == [200]
        for one in told:
            one.cancel()
        await asyncio.gather(*told, return_exceptions=True)
        for half in halves:
            half.close()
        await until(lambda: service.gate.held.total == 0)
