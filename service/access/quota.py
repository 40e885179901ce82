"""Limits how often one caller may ask, by a token bucket each."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from service.errors import QuotaSpent

MOST_CALLERS = 4096
"""Buckets kept; beyond, the one unused for longest is forgotten, and is full if it comes back."""


class Quota:
    """Token buckets by caller.

    Args:
        per_second: requests that a caller may send in the long run; 0 sets no limit.
        burst: requests that it may send at once after a pause, at least 1.
        clock: seconds, monotonic.
    """

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, caller: str) -> None:
        """Take one token. Without one, raises QuotaSpent with the seconds until there is one."""
        if self._per_second == 0:
            return
        now = self._clock()
        tokens, filled = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - filled) * self._per_second)
        left = tokens - 1 if tokens >= 1 else tokens
        self._buckets[caller] = (left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            seconds = max(1, math.ceil((1 - tokens) / self._per_second))
            raise QuotaSpent(
                f"more than {self._per_second:g} requests per second; try again in {seconds} s",
                kind="quota_spent",
                retry_after=seconds,
            )
