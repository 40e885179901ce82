"""Answers on their way into the store: a bounded queue and one thread that writes."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from service.records.answer import AnswerRecord
from service.records.errors import InvalidRecord, RecordsUnavailable
from service.records.store import RecordStore, without_question

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
STALL_SECONDS = 2.0
"""A write that takes longer means that the database is not well, though it gave no error."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    record: AnswerRecord
    waiter: asyncio.Future[bool] | None = None


class Recorder:
    """Takes answers without waiting, and writes them in batches.

    While the database does not work the queue holds what comes; once it is full, further answers
    are lost and counted. The event loop never waits for the database.

    Args:
        store: where to; the caller closes it after the recorder.
        capacity: most answers held in memory.
        batch_rows: most answers per transaction.
        batch_seconds: how long an answer nobody waits for may wait for company.
        keep_question: record the question's text, not only its hash.
        strict: stop `accepting` while the database does not work.
        on_lost: told how many answers were lost and why (``queue_full``, ``unwritable``,
            ``closed``, ``writer_failed``); called from either thread.
    """

    def __init__(
        self,
        store: RecordStore,
        *,
        capacity: int = 10_000,
        batch_rows: int = 100,
        batch_seconds: float = 0.05,
        keep_question: bool = False,
        strict: bool = False,
        on_lost: Callable[[int, str], None] = lambda count, reason: None,
    ) -> None:
        self._store = store
        self._capacity = capacity
        self._batch_rows = batch_rows
        self._batch_seconds = batch_seconds
        self._keep_question = keep_question
        self._strict = strict
        self._on_lost = on_lost
        self._changed = threading.Condition()  # guards what follows
        self._queue: deque[_Entry] = deque()
        self._held = 0  # queued, or in the writer's hands
        self._urgent = 0  # callers that wait for their answer's commit, and drains
        self._closing = False
        self._in_hand: list[_Entry] = []
        self._lost = 0
        self._works = False
        self._busy_since: float | None = None
        self._stop = threading.Event()
        self.tried = threading.Event()
        """Set once the database was tried for the first time, with whatever result."""
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start writing. A database that does not work yet is tried until it does."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, record: AnswerRecord) -> bool:
        """Queue an answer without waiting; False when it is lost."""
        return self._put(_Entry(self._kept(record)))

    async def submit_and_wait(self, record: AnswerRecord) -> bool:
        """Queue an answer and wait until it is committed; False when it is lost.

        Waits as long as the database needs; the caller has the deadline. Given up on, the
        answer is written all the same.
        """
        waiter = asyncio.get_running_loop().create_future()
        return self._put(_Entry(self._kept(record), waiter)) and await waiter

    async def close(self) -> None:
        """Try once more to write what is queued, count what could not be, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._stop.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def healthy(self) -> bool:
        """Whether the database took what it was last given, and is still there."""
        since = self._busy_since
        prompt = since is None or monotonic() - since < STALL_SECONDS
        return self._works and prompt and self._store.there

    @property
    def accepting(self) -> bool:
        """Whether an answer given now would be recorded; when not, strict services refuse it."""
        if self._closing or self._held >= self._capacity:
            return False
        return self.healthy or not self._strict

    @property
    def depth(self) -> int:
        """Answers not yet written."""
        return self._held

    @property
    def lost(self) -> int:
        """Answers lost since the start."""
        return self._lost

    def _kept(self, record: AnswerRecord) -> AnswerRecord:
        return record if self._keep_question else without_question(record)

    def _put(self, entry: _Entry) -> bool:
        with self._changed:
            if self._closing or self._held >= self._capacity:
                reason = "closed" if self._closing else "queue_full"
            else:
                self._queue.append(entry)
                self._held += 1
                self._urgent += entry.waiter is not None
                if entry.waiter is not None or len(self._queue) in {1, self._batch_rows}:
                    self._changed.notify_all()
                return True
        self._count_lost(1, reason)
        return False

    def drained(self, timeout: float) -> bool:
        """Wait until everything queued is written, for at most ``timeout`` seconds."""
        with self._changed:
            self._urgent += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._held == 0, timeout)
            finally:
                self._urgent -= 1

    # What follows runs in the writing thread.

    def _run(self) -> None:
        try:
            self._try_until_done(lambda again: self._store.migrate())
            while batch := self._take():
                self._write(batch)
                self._settle(len(batch))
        except Exception:  # the thread's edge: a mistake of ours must not leave callers waiting
            logger.exception("records: the writer failed; answers are lost from here on")
            self._works = False
            with self._changed:
                self._closing = True
                rest, self._queue = [*self._in_hand, *self._queue], deque()
            self._give_up(rest, "writer_failed")

    def _take(self) -> list[_Entry]:
        """The next batch; empty when the recorder closes and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            self._changed.wait_for(
                lambda: self._urgent or self._closing or len(self._queue) >= self._batch_rows,
                self._batch_seconds,
            )
            size = min(len(self._queue), self._batch_rows)
            self._in_hand = [self._queue.popleft() for _ in range(size)]
            return self._in_hand

    def _write(self, batch: Sequence[_Entry]) -> None:
        """Write a batch, or count it as lost."""
        records = [entry.record for entry in batch]
        try:
            done = self._try_until_done(
                lambda again: self._store.append_answers(records, again=again)
            )
        except InvalidRecord as error:
            if len(batch) > 1:
                for entry in batch:
                    self._write([entry])
                return
            logger.error("records: answer %s is lost: %s", records[0].id, error)
            self._give_up(batch, "unwritable")
            return
        if done:
            self._resolve(batch, True)
        else:
            self._give_up(batch, "closed")

    def _try_until_done(self, attempt: Callable[[bool], None]) -> bool:
        """Try, pausing longer each time; False when the recorder closes and the last try failed."""
        if self._abandoned:
            return False
        pause, again = FIRST_PAUSE_SECONDS, False
        while True:
            last = self._stop.is_set()
            self._busy_since = monotonic()
            try:
                attempt(again)
            except RecordsUnavailable as error:
                if not again:
                    logger.warning("records: not written, will try again: %s", error)
                self._works, again = False, True
            else:
                if again:
                    logger.warning("records: written again")
                self._works = True
                return True
            finally:
                self._busy_since = None
                self.tried.set()
            if last:
                self._abandoned = True
                return False
            self._stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _settle(self, count: int) -> None:
        with self._changed:
            self._held -= count
            self._changed.notify_all()

    def _give_up(self, batch: Sequence[_Entry], reason: str) -> None:
        self._count_lost(len(batch), reason)
        self._resolve(batch, False)

    def _count_lost(self, count: int, reason: str) -> None:
        if count:
            with self._changed:
                self._lost += count
            self._on_lost(count, reason)

    def _resolve(self, batch: Sequence[_Entry], written: bool) -> None:
        """Tell those who wait, all at once."""
        waiters = [entry.waiter for entry in batch if entry.waiter is not None]
        if not waiters or self._loop is None:
            return
        with self._changed:
            self._urgent -= len(waiters)
        try:
            self._loop.call_soon_threadsafe(_tell, waiters, written)
        except RuntimeError:
            logger.warning("records: the event loop closed before %d callers knew", len(waiters))


def _tell(waiters: Sequence[asyncio.Future[bool]], written: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(written)
