"""The time for steps that cannot be undone: a wall clock that jumps ahead deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

log = structlog.get_logger("service.records.clock")
JUMP = timedelta(hours=1)


class CautiousClock:
    """The earlier of the wall clock and of what it said at the start plus the time since.

    Args:
        wall: the wall clock, with its zone. steady: seconds, monotonic.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._started, self._began = wall(), steady()

    def now(self) -> datetime:
        """The time, never later than it can be. Logs a clock that went ahead."""
        wall = self._wall()
        expected = self._started + timedelta(seconds=self._steady() - self._began)
        if wall > expected + JUMP:
            log.warning("clock_jumped", ahead_seconds=round((wall - expected).total_seconds()))
        return min(wall, expected)
