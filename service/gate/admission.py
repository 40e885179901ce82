"""Which requests may run now, which wait, and which must come back later.

Both the places and the requests at work are bounded. Those that wait take turns: single answers go
before batches, and callers alternate, one request each. A request whose deadline would pass before
its answer is refused at once, by the rate of recent answers.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from service.errors import Overloaded, ServiceError, Unavailable
from service.gate.arrival import Arrival

WINDOW = 64
"""Completions over which the drain rate is measured."""
LONGEST_RETRY_SECONDS = 60
CAUTION = 1.25
"""Over the time expected: an answer that comes just too late was worked on for nobody."""
SMOOTHING = 0.1
"""Weight of the newest answer in the mean time of work."""


@dataclass(slots=True, eq=False)
class Place:
    """One request's place, held from before its body is read until its answer is made.

    Args:
        caller: who sent it. deadline: on the clock; infinite for none.
        batch: whether it waits behind single answers.
        arrival: its body, which may still be arriving.
        turn: resolves when it may run; carries the error when it no longer may.
    """

    caller: str
    deadline: float
    batch: bool
    arrival: Arrival | None = None
    turn: asyncio.Future[None] = field(init=False)


Lines = tuple[OrderedDict[str, deque[Place]], OrderedDict[str, deque[Place]]]


class Admission:
    """A bounded queue in front of bounded work.

    Args:
        max_inflight: requests worked on at once.
        max_queue: requests that may wait beside them; one more is refused.
        clock: seconds, monotonic.
    """

    def __init__(
        self, max_inflight: int, max_queue: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_inflight = max_inflight
        self._room = max_inflight + max_queue
        self.clock = clock
        self._places: set[Place] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._vacant = asyncio.Event()
        self._vacant.set()
        self._completed: deque[float] = deque(maxlen=WINDOW)
        self._work_seconds = 0.0
        self._lines: Lines = (OrderedDict(), OrderedDict())
        self.draining = False
        self.inflight = 0

    @property
    def waiting(self) -> int:
        """Requests that hold a place and are not running yet."""
        return len(self._places) - self.inflight

    def rate(self) -> float | None:
        """Recent answers per second, or estimated from the mean time of work; None before both."""
        if len(self._completed) < 2:
            return self._max_inflight / self._work_seconds if self._work_seconds else None
        seconds = self.clock() - self._completed[0]
        return (len(self._completed) - 1) / max(seconds, 1e-6)

    def retry_after(self) -> int:
        """Seconds until the present requests are done, at the measured rate; 1 when unmeasured."""
        rate = self.rate()
        if rate is None:
            return 1
        return min(max(math.ceil(len(self._places) / rate), 1), LONGEST_RETRY_SECONDS)

    @contextmanager
    def place(
        self,
        caller: str,
        *,
        deadline: float = math.inf,
        batch: bool = False,
        arrival: Arrival | None = None,
    ) -> Iterator[Place]:
        """Hold a place while the block runs. Take it before reading the body.

        Raises:
            Overloaded: no place is free, or the deadline cannot be met. Unavailable: draining.
        """
        if self.draining:
            raise Unavailable(
                "the service is shutting down; send the request to another instance",
                kind="draining",
                retry_after=self.retry_after(),
            )
        place = Place(caller, deadline, batch, arrival)
        if not self._in_time(place):
            raise self._refusal("the answer would come after the deadline", "deadline_unreachable")
        if len(self._places) >= self._room:
            self._make_room(place)
        if len(self._places) == 0:
            self._completed.clear()  # an idle time before would understate the rate
        self._places.add(place)
        self._idle.clear()
        if len(self._places) >= self._max_inflight:
            self._vacant.clear()
        try:
            yield place
        finally:
            self._places.discard(place)
            if len(self._places) < self._max_inflight:
                self._vacant.set()
            if len(self._places) == 0:
                self._idle.set()

    async def vacancy(self) -> None:
        """Wait until no request waits and a place is free: the caller lets others go first."""
        while not self._vacant.is_set():
            await self._vacant.wait()

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[float]:
        """Wait for the turn, then run the block; yields the seconds waited.

        Raises:
            Overloaded: another caller's request took the place, or the deadline came too near.
        """
        entered = self.clock()
        if self.inflight < self._max_inflight:
            self.inflight += 1
        else:
            await self._wait(place)
        began = self.clock()
        try:
            yield began - entered
        finally:
            now = self.clock()
            self._completed.append(now)
            weight = SMOOTHING if self._work_seconds else 1.0
            self._work_seconds += weight * (now - began - self._work_seconds)
            self._leave()

    async def drain(self) -> None:
        """Stop admitting requests and wait until those inside are done."""
        self.draining = True
        await self._idle.wait()

    async def _wait(self, place: Place) -> None:
        place.turn = asyncio.get_running_loop().create_future()
        self._lines[place.batch].setdefault(place.caller, deque()).append(place)
        try:
            await place.turn
        except asyncio.CancelledError:
            if place.turn.done() and not place.turn.cancelled() and not place.turn.exception():
                self._leave()  # its turn had just come: pass it on
            else:
                self._remove(place)
            raise

    def _leave(self) -> None:
        """Free a slot and start the next request in turn."""
        self.inflight -= 1
        while self.inflight < self._max_inflight and (place := self._next()) is not None:
            if place.turn.done():  # given up, and not yet out of the line
                continue
            late = self.clock() + CAUTION * self._work_seconds > place.deadline
            if late and (self.inflight or any(self._lines)):  # alone it is tried: estimates age
                place.turn.set_exception(
                    self._refusal("the deadline came too near", "deadline_unreachable")
                )
                continue
            self.inflight += 1
            place.turn.set_result(None)

    def _next(self) -> Place | None:
        """The request whose turn it is: single answers first, callers alternating."""
        for line in self._lines:
            if line:
                caller, places = line.popitem(last=False)
                place = places.popleft()
                if places:
                    line[caller] = places  # to the end of the line
                return place
        return None

    def _remove(self, place: Place) -> None:
        line = self._lines[place.batch]
        places = line.get(place.caller)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del line[place.caller]

    def _in_time(self, place: Place) -> bool:
        """Whether an answer can be expected before the deadline."""
        rate = self.rate()
        if rate is None or self.inflight < self._max_inflight:
            return True
        ahead = 1 + self._ahead(place)
        expected = ahead / rate + self._work_seconds
        return self.clock() + CAUTION * expected <= place.deadline

    def _ahead(self, place: Place) -> int:
        """How many waiting requests get their turn before a new one."""
        mine = len(self._lines[place.batch].get(place.caller, ()))
        fair = sum(min(len(places), mine + 1) for places in self._lines[place.batch].values())
        return fair + (sum(map(len, self._lines[0].values())) if place.batch else 0)

    def _make_room(self, place: Place) -> None:
        """Free a place: a slow body loses its own, or the caller with the most. Raises Overloaded.

        Arriving bodies lose theirs first, the slowest of them; then the newest request of the
        caller who has most waiting, if that is fairer.
        """
        if self._displace_body(place):
            return
        singles, batches = self._lines
        line = batches or singles
        places = max(line.values(), key=len, default=deque[Place]())
        mine = len(line.get(place.caller, ()))
        outranks, outranked = line is batches and not place.batch, line is singles and place.batch
        if not places or outranked or not (outranks or len(places) > mine + 1):
            raise self._refusal("the queue is full", "overloaded")
        victim = places[-1]
        self._remove(victim)
        if not victim.turn.done():
            victim.turn.set_exception(self._refusal("the queue is full", "overloaded"))

    def _displace_body(self, place: Place) -> bool:
        """Give up the slowest arriving body that is slow, or whose caller has two places more."""
        arriving = [
            one.arrival for one in self._places if one.arrival is not None and one.arrival.awaited
        ]
        held = Counter(one.caller for one in self._places)
        most = math.inf if place.batch else held[place.caller] + 1
        found = [one for one in arriving if one.slow or held[one.caller] > most]
        if not found:
            return False
        slowest = min(found, key=lambda one: one.rate)
        slowest.give_up(
            self._refusal("the queue is full, and the body was on its way", "overloaded")
        )
        return True

    def _refusal(self, why: str, kind: str) -> ServiceError:
        seconds = self.retry_after()
        return Overloaded(f"{why}; try again in {seconds} s", kind=kind, retry_after=seconds)
