"""Whose turn it is: single answers before batches, one of each caller, nobody in vain.

And before the turn: bodies on their way, by one key, keep no other key out.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.access.key_file import new_key, save_keys, utc_now
from service.errors import Overloaded
from service.gate.admission import Admission

pytestmark = pytest.mark.anyio
MIB = 2**20
LIMIT_SECONDS = 30


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Line:
    """Requests in front of one worker; each works for one second of the clock."""

    def __init__(self, places: int = 100) -> None:
        self.clock = Clock()
        self.admission = Admission(1, places, self.clock)
        self.served: list[str] = []
        self.refused: list[tuple[str, str]] = []

    async def ask(self, caller: str, **options: object) -> None:
        try:
            with self.admission.place(caller, **options) as place:  # type: ignore[arg-type]
                async with self.admission.turn(place):
                    await asyncio.sleep(0)
                    self.clock.now += 1.0
                    self.served.append(caller)
        except Overloaded as error:
            self.refused.append((caller, error.kind))

    async def run(self, *asked: tuple[str, dict[str, object]]) -> None:
        """Send all at once, in order, and wait for all."""
        await asyncio.gather(*(self.ask(caller, **options) for caller, options in asked))


async def test_callers_take_turns():
    line = Line()
    await line.run(*[("a", {})] * 5, *[("b", {})] * 2, ("c", {}))
    assert "".join(line.served) == "aabcabaa"


async def test_batches_wait_behind_single_answers():
    line = Line()
    await line.run(*[("batch", {"batch": True})] * 3, *[("one", {})] * 2)
    assert line.served == ["batch", "one", "one", "batch", "batch"]


async def test_a_full_queue_makes_room_for_who_has_less_in_it():
    line = Line(places=4)
    await line.run(*[("a", {})] * 5, *[("b", {})] * 3)
    assert sorted(line.served) == ["a", "a", "a", "b", "b"]
    assert line.refused == [("b", "overloaded"), ("a", "overloaded"), ("a", "overloaded")]


async def test_a_full_queue_makes_room_for_a_single_answer_not_for_a_batch():
    line = Line(places=2)
    await line.run(*[("x", {"batch": True})] * 3, ("one", {}), ("two", {}), ("y", {"batch": True}))
    assert line.served == ["x", "one", "two"]
    assert sorted(line.refused) == [("x", "overloaded"), ("x", "overloaded"), ("y", "overloaded")]


@pytest.mark.parametrize(
    ("seconds", "refused"),
    [
        (5.0, 1),
        (7.5, 1),  # seven are expected, and a quarter of that over is kept for surprises
        (9.0, 0),
    ],
)
async def test_a_deadline_that_cannot_be_met_is_refused_at_once(seconds, refused):
    line = Line()
    await line.run(*[("a", {})] * 4)  # one a second
    now = line.clock.now
    full = [("a", {})] * 6  # one works, five wait
    await line.run(*full, ("a", {"deadline": now + seconds}), ("a", {"deadline": now + 60.0}))
    assert line.refused == [("a", "deadline_unreachable")] * refused
    assert len(line.served) == 4 + 8 - refused


async def test_a_newcomer_is_not_told_to_wait_for_anothers_whole_queue():
    line = Line()
    await line.run(*[("a", {})] * 4)
    deadline = line.clock.now + 5.0
    await line.run(*[("a", {})] * 20, ("b", {"deadline": deadline}))
    assert line.refused == []
    assert line.served.index("b") == 4 + 2


async def test_a_deadline_that_came_too_near_is_not_worked_on():
    line = Line()
    deadline = line.clock.now + 2.5  # nothing is measured yet, so it waits
    await line.run(*[("a", {})] * 3, ("a", {"deadline": deadline}), ("a", {}))
    assert line.refused == [("a", "deadline_unreachable")]
    assert len(line.served) == 4


async def test_with_nobody_at_work_a_short_deadline_is_tried():
    line = Line()
    await line.run(*[("a", {})] * 4)
    await line.run(("a", {"deadline": line.clock.now + 0.1}))
    assert line.refused == []


async def test_someone_who_gives_up_in_the_same_moment_passes_the_turn_on():
    admission = Admission(1, 5)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        with admission.place("a") as place:
            async with admission.turn(place):
                entered.set()
                await leave.wait()

    async def other() -> None:
        with admission.place("a") as place:
            async with admission.turn(place):
                pass

    one = asyncio.create_task(first())
    await entered.wait()
    two, three = asyncio.create_task(other()), asyncio.create_task(other())
    await asyncio.sleep(0)
    leave.set()
    await one  # the turn has been given to the second, which has not run yet or is just about to
    two.cancel()
    await asyncio.wait_for(asyncio.gather(two, three, return_exceptions=True), 5)
    assert (admission.inflight, admission.waiting) == (0, 0)


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
KINDS = {
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
def two_keys(tmp_path: Path) -> tuple[Path, str, str]:
    """Their file, and both."""
    file = tmp_path / "keys.json"
    made = [new_key(name, ("answer",), utc_now()) for name in "ab"]
    save_keys(file, [kept for _, kept in made])
    return file, made[0][0], made[1][0]


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
