"""Who may work now, who waits, and who is told to come back, and when."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.errors import Overloaded, Unavailable

WINDOW = 64
"""Completions over which the drain rate is measured."""
LONGEST_RETRY_SECONDS = 60


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
        self._slots = asyncio.Semaphore(max_inflight)
        self._places = max_inflight
        self._room = max_inflight + max_queue
        self._clock = clock
        self._admitted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._vacant = asyncio.Event()
        self._vacant.set()
        self._completed: deque[float] = deque(maxlen=WINDOW)
        self.draining = False
        self.inflight = 0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._admitted - self.inflight

    def retry_after(self) -> int:
        """Seconds until what is here now has drained, by the rate measured; 1 when unmeasured."""
        if len(self._completed) < 2:
            return 1
        seconds = self._clock() - self._completed[0]
        rate = (len(self._completed) - 1) / max(seconds, 1e-6)
        return min(max(math.ceil(self._admitted / rate), 1), LONGEST_RETRY_SECONDS)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[float]:
        """Hold a place for the time of the block; gives the seconds waited for it.

        Raises:
            Overloaded: the queue is full. Unavailable: draining.
        """
        if self.draining:
            raise Unavailable(
                "the service is shutting down; send the request to another instance",
                kind="draining",
                retry_after=self.retry_after(),
            )
        if self._admitted >= self._room:
            seconds = self.retry_after()
            raise Overloaded(
                f"the queue is full; try again in {seconds} s",
                kind="overloaded",
                retry_after=seconds,
            )
        if self._admitted == 0:
            self._completed.clear()  # an idle time before would understate the rate
        self._admitted += 1
        self._idle.clear()
        if self._admitted >= self._places:
            self._vacant.clear()
        entered = self._clock()
        try:
            async with self._slots:
                self.inflight += 1
                try:
                    yield self._clock() - entered
                finally:
                    self.inflight -= 1
                    self._completed.append(self._clock())
        finally:
            self._admitted -= 1
            if self._admitted < self._places:
                self._vacant.set()
            if self._admitted == 0:
                self._idle.set()

    async def vacancy(self) -> None:
        """Return when nobody waits and a place is free: who comes this way lets others go first."""
        while not self._vacant.is_set():
            await self._vacant.wait()

    async def drain(self) -> None:
        """Admit nobody any more and wait until those inside are done."""
        self.draining = True
        await self._idle.wait()
