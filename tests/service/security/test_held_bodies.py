"""Bodies that are held or on their way: bounded for each caller and in all, and fair.

tests/service/http/test_fairness.py asks the service the same from outside.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.app import create_app
from service.errors import Overloaded
from service.gate.admission import Admission
from service.gate.arrival import SLOW_SECONDS, HeldBytes
from service.settings import Settings

pytestmark = pytest.mark.anyio
MIB = 2**20


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
