"""How long one request spent in each stage."""

from __future__ import annotations

from time import perf_counter, time_ns


class Stages:
    """Seconds that one request spent in each stage, and when: ``spans``, in Unix nanoseconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.spans: list[tuple[str, int, int]] = []
        self._started = perf_counter()

    def timed(self, stage: str) -> Timed:
        """Add the time of the block to ``stage``."""
        return Timed(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds that end now to ``stage``."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        now = time_ns()
        self.spans.append((stage, now - round(seconds * 1e9), now))

    @property
    def total(self) -> float:
        """Seconds since the request came."""
        return perf_counter() - self._started


class Timed:
    """The context manager that :meth:`Stages.timed` gives."""

    __slots__ = ("_stage", "_stages", "_started")

    def __init__(self, stages: Stages, stage: str) -> None:
        self._stages, self._stage = stages, stage

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages.add(self._stage, perf_counter() - self._started)
