"""Whose turn it is: single answers before batches, one of each caller, nobody in vain.

What holds before a turn, for bodies on their way: tests/service/security/test_held_bodies.py.
"""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Overloaded
from service.gate.admission import Admission

pytestmark = pytest.mark.anyio


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
