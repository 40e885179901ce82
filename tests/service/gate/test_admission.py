"""The queue: bounded, in order, and honest about when to come back."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Overloaded, Unavailable
from service.gate.admission import LONGEST_RETRY_SECONDS, Admission

pytestmark = pytest.mark.anyio


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Visitor:
    """Someone inside until told to go."""

    def __init__(self, admission: Admission) -> None:
        self.inside, self.leave = asyncio.Event(), asyncio.Event()
        self.waited = -1.0
        self.task = asyncio.create_task(self._visit(admission))

    async def _visit(self, admission: Admission) -> None:
        with admission.place("a") as place:
            async with admission.turn(place) as waited:
                self.waited = waited
                self.inside.set()
                await self.leave.wait()

    async def go(self) -> None:
        self.leave.set()
        await self.task


async def test_the_rate_is_measured_and_what_is_here_is_divided_by_it():
    clock = Clock()
    admission = Admission(1, 20, clock)
    visitors = [Visitor(admission) for _ in range(21)]
    await visitors[0].inside.wait()
    assert admission.retry_after() == 1  # nothing measured yet
    for visitor in visitors[:11]:  # two a second
        await visitor.inside.wait()
        clock.now += 0.5
        await visitor.go()
    await visitors[11].inside.wait()
    assert (admission.inflight, admission.waiting) == (1, 9)
    assert admission.retry_after() == 5
    clock.now += 1e6  # stuck: the rate measured falls, the answer stays bounded
    assert admission.retry_after() == LONGEST_RETRY_SECONDS
    for visitor in visitors[11:]:
        await visitor.go()


async def test_idle_time_does_not_count_against_the_rate():
    clock = Clock()
    admission = Admission(1, 20, clock)
    await Visitor(admission).go()
    clock.now += 3600
    visitors = [Visitor(admission) for _ in range(4)]
    for visitor in visitors[:3]:
        await visitor.inside.wait()
        clock.now += 1
        await visitor.go()
    assert admission.retry_after() == 1
    await visitors[3].go()


async def test_full_is_refused_at_once_and_a_place_freed_is_given():
    admission = Admission(1, 1)
    first, second = Visitor(admission), Visitor(admission)
    await first.inside.wait()
    with pytest.raises(Overloaded) as refused, admission.place("a"):
        pass
    assert refused.value.retry_after is not None
    await first.go()
    third = Visitor(admission)
    await second.inside.wait()
    await second.go()
    await third.go()
    assert (admission.inflight, admission.waiting) == (0, 0)


async def test_the_wait_is_told():
    clock = Clock()
    admission = Admission(1, 1, clock)
    first, second = Visitor(admission), Visitor(admission)
    await first.inside.wait()
    clock.now += 2.5
    await first.go()
    await second.inside.wait()
    assert (first.waited, second.waited) == (0.0, 2.5)
    await second.go()


async def test_someone_who_gives_up_leaves_no_trace():
    admission = Admission(1, 5)
    first, impatient = Visitor(admission), Visitor(admission)
    await first.inside.wait()
    impatient.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient.task
    assert admission.waiting == 0
    await first.go()
    await asyncio.wait_for(admission.drain(), 1)


async def test_drain_waits_for_those_inside_and_admits_nobody():
    admission = Admission(2, 2)
    visitor = Visitor(admission)
    await visitor.inside.wait()
    draining = asyncio.create_task(admission.drain())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused, admission.place("a"):
        pass
    assert refused.value.kind == "draining"
    assert not draining.done()
    await visitor.go()
    await draining
