"""Bodies that are held or on their way: bounded for each caller and in all, and fair."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the service's thread to come so far."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - another thread sets no event for it
            await asyncio.sleep(0.005)


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

    async def send(self, body: bytes, path: str = "/v1/answer", **headers: str) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n"
            f"Authorization: Bearer {self._key}\r\n{more}\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def told(self) -> bytes:
        """The answer's first line."""
        return await asyncio.wait_for(self._reader.readline(), LIMIT_SECONDS)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def two_keys(keys_file) -> tuple[str, str]:
    made = [new_key(name, ("answer",), utc_now()) for name in "ab"]
    save_keys(keys_file, [kept for _, kept in made])
    return made[0][0], made[1][0]


KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "json": ("/v1/answer", {"Content-Type": "application/json"}),
    "a form": ("/v1/answer", {"Content-Type": "multipart/form-data; boundary=x"}),
    "under a key": ("/v1/answer", {"Content-Type": "application/json", "Idempotency-Key": "N"}),
    "chat": ("/v1/chat/completions", {"Content-Type": "application/json"}),
    "a batch": ("/v1/answers:batch", {"Content-Type": "application/jsonl"}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_half_sent_bodies_of_one_key_keep_no_other_key_out(
    live, keys_file, two_keys, png, kind
):
    path, headers = KINDS[kind]
    settings = {"max_inflight": 2, "max_queue": 4, "records_url": "", "api_keys_file": keys_file}
    image = base64.b64encode(png).decode()
    with live(**settings) as service:
        port = int(service.url.rpartition(":")[2])
        halves = [Half(port, two_keys[0]) for _ in range(12)]
        for number, half in enumerate(halves):
            own = {name: value.replace("N", f"{number}") for name, value in headers.items()}
            await half.send(b'{"question": "', path, **own)
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            for _ in range(8):
                told = await client.post(
                    "/v1/answer",
                    json={"question": "Is it whole?", "image": image},
                    headers={"authorization": f"Bearer {two_keys[1]}"},
                )
                assert told.status_code == 200
        for half in halves:
            half.close()
        await until(lambda: service.gate.held.total == 0 and service.gate.admission.waiting == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_one_key_holds_are_bounded(live, keys_file, two_keys, png, kind):
    path, headers = KINDS[kind]
    settings = {
        "max_inflight": 4, "max_queue": 40, "records_url": "", "api_keys_file": keys_file,
        "max_image_bytes": 4 * MIB, "max_held_bytes": 24 * MIB,
        "max_held_bytes_per_caller": 12 * MIB,
    }  # fmt: skip
    most = 0

    def enough() -> bool:
        nonlocal most
        most = max(most, service.gate.held.total)
        refused = sum(one.done() and b" 503 " in one.result() for one in told)
        return most >= 8 * MIB and (refused >= 4 or kind == "a batch")  # that has said 200 before

    with live(**settings) as service:
        port = int(service.url.rpartition(":")[2])
        halves = [Half(port, two_keys[0]) for _ in range(10)]
        for number, half in enumerate(halves):
            own = {name: value.replace("N", f"{number}") for name, value in headers.items()}
            await half.send(b"a" * (2 * MIB), path, **own)
        told = [asyncio.ensure_future(half.told()) for half in halves]
        await until(enough)
        body = {"question": "Is it?", "image": base64.b64encode(png).decode()}
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
            key = {"authorization": f"Bearer {two_keys[1]}"}
            other = await client.post("/v1/answer", json=body, headers=key)
        enough()
        for half in halves:
            half.close()
        await until(lambda: service.gate.held.total == 0)
        await asyncio.gather(*told, return_exceptions=True)
    assert other.status_code == 200
    assert most <= 12 * MIB
