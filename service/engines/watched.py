"""Notices an engine that hangs, so that no request waits for it any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)
from service.engines.base import Engine, EngineError

log = structlog.get_logger("service.engines.watched")
Result = TypeVar("Result")


class EngineHung(EngineError):
    """The engine was given up."""


class Watched:
    """Watches an engine. Busy for too long without an answer, it counts as hung for good.

    Time adds up over calls that were given up (by a deadline or a client that went away), so that
    deadlines shorter than the limit do not hide a hang. An engine's error is an answer.

    Args:
        engine: what is watched.
        limit_seconds: longest time that it may be busy without an answer.
    """

    def __init__(self, engine: Engine, limit_seconds: float) -> None:
        self._engine = engine
        self._limit_seconds = limit_seconds
        self._inside: set[asyncio.Timeout] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._answered = 0.0
        """Loop time of the last answer, moved on by the times when nobody waited for one."""
        self._left = 0.0
        self.hung = False

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity

    @property
    def healthy(self) -> bool:
        return self._engine.healthy and not self.hung

    async def start(self) -> None:
        await self._engine.start()

    async def generate(self, query: Query, readout: Readout) -> Generation:
        return await self._call(lambda: self._engine.generate(query, readout))

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        return await self._call(
            lambda: self._engine.sample(
                query, count, temperature=temperature, top_p=top_p, seed=seed
            )
        )

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        return await self._call(lambda: self._engine.score(query, token_ids))

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        return self._engine.patch_boxes(image_size, grid)

    async def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        await self._engine.close()

    async def _call(self, call: Callable[[], Awaitable[Result]]) -> Result:
        self._check()
        answered = True
        try:
            async with asyncio.timeout(None) as patience:
                self._enter(patience)
                try:
                    return await call()
                except asyncio.CancelledError:
                    answered = False
                    raise
                finally:
                    self._exit(patience, answered)
        except TimeoutError:
            self._check()
            raise

    def _check(self) -> None:
        if self.hung:
            raise EngineHung(f"no answer for {self._limit_seconds:g} s; the engine was given up")

    def _enter(self, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        if not self._inside:
            self._answered += loop.time() - self._left
            if self._alarm is None:
                self._alarm = loop.call_at(self._answered + self._limit_seconds, self._look)
        self._inside.add(patience)

    def _exit(self, patience: asyncio.Timeout, answered: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._inside.discard(patience)
        self._left = now
        if answered:
            self._answered = now

    def _look(self) -> None:
        """The alarm: hung, or to be set again for when it would be."""
        self._alarm = None
        if self.hung or not self._inside:
            return
        loop = asyncio.get_running_loop()
        due = self._answered + self._limit_seconds
        if loop.time() < due:
            self._alarm = loop.call_at(due, self._look)
            return
        self.hung = True
        log.error("engine_hung", seconds=self._limit_seconds, requests=len(self._inside))
        for patience in self._inside:
            patience.reschedule(loop.time())
