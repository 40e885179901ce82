"""Concurrent requests in, batches out: a bounded queue in front of one worker thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from service.engines.base import EngineError, EngineOverloaded

PREPARING_THREADS = 2
CLOSE_SECONDS = 10.0
"""Longest wait at the end for a batch that nobody waits for any more: it may hang."""


class Batchable(Protocol):
    """What can be answered in one batch with others of its kind."""

    @property
    def kind(self) -> str:
        """Only items of one kind share a batch."""
        ...

    @property
    def rows(self) -> int:
        """How many rows of the batch it takes."""
        ...


Item = TypeVar("Item", bound=Batchable)
Result = TypeVar("Result")


@dataclass(eq=False)
class _Ticket(Generic[Item, Result]):
    item: Item
    future: Future[Result] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Prepares items on a small pool, gathers them and runs each batch on one worker thread.

    A batch starts as soon as the worker is free and no other request is being prepared; while some
    are, it waits for them, at most ``wait_seconds``. A lone request therefore never waits. An item
    whose request was cancelled is dropped before its batch starts. When a batch of several fails,
    each is run alone, so that one request cannot fail the others.

    Args:
        run: answers a batch, one result per item, on the worker thread.
        max_rows: most rows in a batch; an item of more rows runs alone.
        wait_seconds: longest wait for requests that are being prepared.
        capacity: most requests in the engine at once, running ones included.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_rows: int,
        wait_seconds: float,
        capacity: int,
    ) -> None:
        self._run = run
        self._max_rows = max_rows
        self._wait_seconds = wait_seconds
        self._capacity = capacity
        self._changed = threading.Condition()
        self._queue: deque[_Ticket[Item, Result]] = deque()
        self._open = 0
        self._preparing = 0
        self._closed = False
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="engine-prepare")
        self._worker = threading.Thread(target=self._work, name="engine-worker", daemon=True)
        self._worker.start()

    @property
    def alive(self) -> bool:
        """False once the worker has ended."""
        return self._worker.is_alive()

    async def submit(self, prepare: Callable[[], Item]) -> Result:
        """Prepare an item on the pool, queue it and wait for its result.

        Raises EngineOverloaded when the engine holds ``capacity`` requests, EngineError when it is
        closed or the batch failed, and whatever ``prepare`` raises.
        """
        with self._changed:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._open >= self._capacity:
                raise EngineOverloaded(f"the engine already holds {self._capacity} requests")
            self._open += 1
            self._preparing += 1
        ticket: _Ticket[Item, Result] | None = None
        try:
            try:
                item = await asyncio.get_running_loop().run_in_executor(self._pool, prepare)
                ticket = _Ticket(item)
            finally:
                self._prepared(ticket)
            return await asyncio.wrap_future(ticket.future)
        finally:
            with self._changed:
                self._open -= 1

    def close(self) -> None:
        """Finish the running batch unless it hangs, refuse what waits.

        Blocks, for :data:`CLOSE_SECONDS` at most; may be called twice.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._worker.join(CLOSE_SECONDS)
        self._pool.shutdown()

    def _prepared(self, ticket: _Ticket[Item, Result] | None) -> None:
        with self._changed:
            self._preparing -= 1
            if ticket is not None:
                if self._closed:
                    ticket.future.set_exception(EngineError("the engine is closed"))
                else:
                    self._queue.append(ticket)
            self._changed.notify_all()

    def _work(self) -> None:
        while batch := self._next_batch():
            running = [each for each in batch if each.future.set_running_or_notify_cancel()]
            if running:
                self._run_batch(running)

    def _next_batch(self) -> list[_Ticket[Item, Result]]:
        """The next tickets of one kind, in their order; nothing once closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            deadline = time.monotonic() + self._wait_seconds
            while self._preparing and not self._closed and len(self._queue) < self._max_rows:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._closed:
                for ticket in self._queue:
                    if ticket.future.set_running_or_notify_cancel():
                        ticket.future.set_exception(EngineError("the engine is closed"))
                self._queue.clear()
                return []
            return self._take()

    def _take(self) -> list[_Ticket[Item, Result]]:
        first = self._queue.popleft()
        batch, rows = [first], first.item.rows
        left: deque[_Ticket[Item, Result]] = deque()
        for ticket in self._queue:
            fits = ticket.item.kind == first.item.kind and rows + ticket.item.rows <= self._max_rows
            if fits and not ticket.future.cancelled():
                batch.append(ticket)
                rows += ticket.item.rows
            else:
                left.append(ticket)
        self._queue = left
        return batch

    def _run_batch(self, batch: Sequence[_Ticket[Item, Result]]) -> None:
        try:
            results = self._run([ticket.item for ticket in batch])
        except Exception as error:  # it must reach the request, not end the thread
            if len(batch) > 1:
                for ticket in batch:
                    self._run_batch([ticket])
                return
            failure = error if isinstance(error, EngineError) else _failure(error)
            batch[0].future.set_exception(failure)
        else:
            for ticket, result in zip(batch, results, strict=True):
                ticket.future.set_result(result)


def _failure(error: Exception) -> EngineError:
    failure = EngineError(f"the model failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
