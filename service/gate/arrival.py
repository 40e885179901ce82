"""Request bodies while they arrive: how many bytes are held, for which caller, and which are slow.

Bytes count from a body's first until it is parsed, for each caller and in total. Where they would
be too many, or where the queue is full, one that is still arriving gives way: the slowest of the
slow ones, or of the caller who holds most.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.errors import Overloaded, ServiceError

SLOW_SECONDS = 2.0
"""A body is not called slow before."""
SLOW_BYTES_PER_SECOND = 16 * 1024
SHARE = "bodies of this caller hold as many bytes as they may"


class Arrival:
    """One arriving body.

    Args:
        caller: who sends it. clock: seconds, monotonic.
    """

    def __init__(self, caller: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.caller = caller
        self.size = 0
        """Bytes held."""
        self._clock = clock
        self._began = clock()
        self._patience: asyncio.Timeout | None = None
        self._why: ServiceError | None = None

    @property
    def awaited(self) -> bool:
        """Whether more of it is to come, and it has not been given up."""
        return self._patience is not None

    @property
    def rate(self) -> float:
        """Bytes per second, so far."""
        return self.size / max(self._clock() - self._began, 1e-6)

    @property
    def slow(self) -> bool:
        """Whether it arrives so slowly that any other may take its place."""
        late = self._clock() - self._began > SLOW_SECONDS
        return self.awaited and late and self.rate < SLOW_BYTES_PER_SECOND

    @asynccontextmanager
    async def awaiting(self) -> AsyncIterator[None]:
        """Let the body be given up while the block waits. Raises the error of :meth:`give_up`."""
        try:
            async with asyncio.timeout(None) as self._patience:
                yield
        except TimeoutError:
            if self._why is None:
                raise
        finally:
            self._patience = None
        if self._why is not None:
            raise self._why

    def give_up(self, why: ServiceError) -> None:
        """Stop waiting for it: the waiting block raises ``why``."""
        assert self._patience is not None
        self._why = why
        self._patience.reschedule(asyncio.get_running_loop().time())
        self._patience = None


class HeldBytes:
    """Counts the bytes of all bodies.

    Args:
        most: in total. most_per_caller: for one caller.
        clock: seconds, monotonic.
    """

    def __init__(
        self, most: int, most_per_caller: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._most_per_caller, self._clock = most, most_per_caller, clock
        self._arrivals: set[Arrival] = set()
        self._of: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Bytes held now."""
        return self._of.total()

    @contextmanager
    def body(self, caller: str) -> Iterator[Arrival]:
        """Count a caller's body; its bytes are released at the end of the block."""
        arrival = self.open(caller)
        try:
            yield arrival
        finally:
            self.close(arrival)

    def open(self, caller: str) -> Arrival:
        """Count a caller's body until :meth:`close`."""
        arrival = Arrival(caller, self._clock)
        self._arrivals.add(arrival)
        return arrival

    def close(self, arrival: Arrival) -> None:
        """Release all of its bytes."""
        self._arrivals.discard(arrival)
        self.shrink(arrival, arrival.size)

    def check(self, caller: str, count: int) -> None:
        """Raise Overloaded if a caller may not send so many bytes now.

        It is known before they come where none of the caller's slow bodies could make room.
        """
        slow = sum(one.size for one in self._arrivals if one.caller == caller and one.slow)
        if self._of[caller] - slow + count > self._most_per_caller:
            raise _overloaded(SHARE)

    def grow(self, arrival: Arrival, count: int) -> None:
        """Count bytes that arrived. Raises Overloaded when there is no room for them."""
        while self._of[arrival.caller] + count > self._most_per_caller:
            mine = [one for one in self._arrivals if one.caller == arrival.caller and one.slow]
            self._displace(mine, arrival, SHARE)
        while self.total + count > self._most:
            most = self._of[arrival.caller] + count
            others = [
                one
                for one in self._arrivals
                if one.awaited and (one.slow or self._of[one.caller] > most)
            ]
            self._displace(
                others, arrival, "the bodies that are here hold as many bytes as they may"
            )
        self._of[arrival.caller] += count
        arrival.size += count

    def shrink(self, arrival: Arrival, count: int) -> None:
        """Release some of its bytes."""
        arrival.size -= count
        self._of[arrival.caller] -= count
        if not self._of[arrival.caller]:
            del self._of[arrival.caller]

    def _displace(self, found: list[Arrival], arrival: Arrival, why: str) -> None:
        """Give up the slowest. Raises Overloaded when there is none but the arrival itself."""
        error = _overloaded(why)
        found = [one for one in found if one is not arrival]
        if not found:
            raise error
        slowest = min(found, key=lambda one: one.rate)
        slowest.give_up(error)
        self.shrink(slowest, slowest.size)


def _overloaded(why: str) -> Overloaded:
    return Overloaded(
        f"{why}; send fewer or smaller ones at once, and this one again in 1 s",
        kind="overloaded",
        retry_after=1,
    )
