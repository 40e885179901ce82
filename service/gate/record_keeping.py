"""Keeps a record of every answer, draws the audits, and watches the promise."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from probes.model.bundle import Bundle
from probes.model.policy import Policy
from probes.monitor.audit import Audit, choose_audit
from probes.types import Missing
from service.errors import Overloaded, Unavailable
from service.gate.ask import Ask, Outcome
from service.gate.observer import Observer
from service.gate.promise import READ_SECONDS, Promise
from service.gate.stages import Stages
from service.gate.to_record import to_record
from service.records.audit_secret import load_or_create_secret
from service.records.clock import CautiousClock
from service.records.errors import RecordsError, RecordsUnavailable
from service.records.head import SigningKey
from service.records.picture_archive import PictureArchive
from service.records.recorder import Recorder
from service.records.retention import delete_before
from service.records.store import RecordStore
from service.settings import PREFIX, Settings

log = structlog.get_logger("service.gate.record_keeping")
Result = TypeVar("Result")
READERS = 4
MOST_READS = 64
"""Reads of the records that may wait; one more is refused."""
RETENTION_SECONDS = 3600.0
"""Between two deletions of what is too old."""


class RecordKeeping:
    """The records of a running service.

    Args:
        settings: with ``records_database``.
        observer: counts the losses.

    Raises:
        RecordsError: the URL, the database's folder, the signing key or the audit's secret cannot
            be used.
    """

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self._settings = settings
        self.store = open_store(settings)
        if self.store.file is not None:
            self.store.file.check_folder()
        self._rate = settings.audit_rate
        self._secret = load_or_create_secret(settings.audit_secret_path) if self._rate > 0 else b""
        self.promise: Promise | None = None
        """The one that is watched: of the rules in force."""
        self.recorder = Recorder(
            self.store,
            keep_question=settings.records_keep_question,
            strict=settings.records_strict,
            on_lost=lambda count, reason: observer.records_lost(count),
        )
        self._archive = (
            PictureArchive(settings.images_url, observer.image_lost)
            if settings.images_url
            else None
        )
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="records-read")
        self._background = ThreadPoolExecutor(2, thread_name_prefix="records-watch")
        self._reading = 0
        self._clock = CautiousClock()
        self._tasks: list[asyncio.Task[None]] = []

    def promise_of(self, bundle: Bundle, policy: Policy) -> Promise:
        """A promise for other rules, not read yet. It keeps the drift of the same bundle."""
        promise = Promise(
            self.store,
            bundle,
            deadline_days=self._settings.audit_deadline_days,
            confirmed=self._settings.void_needs_second_word,
            window=self._settings.drift_window,
            mode=policy.mode,
        )
        if self.promise is not None and self.promise.bundle == bundle.id:
            promise.drift = self.promise.drift
        return promise

    async def read_promise(self, promise: Promise) -> None:
        """Read the audits of a promise before it counts. Raises RecordsUnavailable."""
        await self._in_background(promise.read)

    async def start(self) -> None:
        """Open the database. Tries again in the background while it is away.

        Raises RecordsError: a newer version made the tables.
        """
        try:
            await self._in_background(self.store.migrate)
            await self._read()
        except RecordsUnavailable as error:
            log.error("records_unavailable", detail=str(error))
        await self.recorder.start()
        await self._in_background(self.recorder.tried.wait)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._age())]

    async def close(self) -> None:
        """Write what is queued, trying once more where that fails, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.recorder.close()
        if self.recorder.lost:  # nobody reads the counter any more
            log.error("records_lost", lost=self.recorder.lost)
        if self._archive is not None:
            await asyncio.to_thread(self._archive.close)
        self._readers.shutdown()
        self._background.shutdown()
        self.store.close()

    @property
    def ready(self) -> bool:
        """Whether answers may be given: not while records are required and cannot be written."""
        return self.recorder.accepting or not self._settings.records_strict

    def check(self) -> None:
        """Raise Unavailable where an answer must be recorded and cannot be now."""
        if not self.ready:
            raise _unavailable("answers are not given while they cannot be recorded")

    async def keep(self, ask: Ask, outcome: Outcome, stages: Stages, answer_id: str) -> Outcome:
        """Draw the audit and record the answer; returns the outcome that the caller gets.

        Strict: returns once the record is committed. Otherwise nothing is waited for.

        Raises Unavailable: strict, and the record was lost.
        """
        audit = self._draw(outcome, answer_id)
        if audit is not None and audit.selected:
            decision = replace(outcome.decision, decision="escalate", reason="audit")
            outcome = replace(outcome, decision=decision)
        _observe(outcome, ask)
        record = to_record(ask, outcome, stages, answer_id, audit, self._settings.mode)
        if self._archive is not None and outcome.decision.decision != "accept":
            self._archive.submit(record.created, record.image_sha256, ask.picture.file)
        if not self._settings.records_strict:
            self.recorder.submit(record)
        else:
            with stages.timed("record"):
                if not await self.recorder.submit_and_wait(record):
                    raise _unavailable("the answer could not be recorded, so it is not given")
        return outcome

    async def read(self, work: Callable[[RecordStore], Result]) -> Result:
        """Run a call of the store on a reader thread.

        Raises:
            Unavailable: the database does not work now. Overloaded: too many calls wait.
            RecordsError: as ``work`` does.
        """
        if self._reading >= MOST_READS:
            raise Overloaded(
                "too many reads of the records wait; try again",
                kind="records_overloaded",
                retry_after=1,
            )
        self._reading += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, work, self.store)
        except RecordsUnavailable as error:
            log.warning("records_unavailable", detail=str(error))
            raise _unavailable("the records cannot be read or written now") from error
        finally:
            self._reading -= 1

    def settle(self, seconds: float = 1.0) -> None:
        """Block until what is queued is written, where the database works."""
        if self.recorder.healthy:
            self.recorder.drained(seconds)

    @property
    def health(self) -> Mapping[str, Any]:
        """What ``/readyz`` says of the records."""
        recorder = self.recorder
        state = "ok" if recorder.healthy else "failing"
        return {"state": state, "waiting": recorder.depth, "lost": recorder.lost}

    def _draw(self, outcome: Outcome, answer_id: str) -> Audit | None:
        if self._rate == 0 or outcome.decision.decision != "accept":
            return None
        return choose_audit(answer_id, self._rate_of(outcome), self._secret, self._rate)

    def _rate_of(self, outcome: Outcome) -> float:
        """The chance of an audit: higher for the risky half of accepted answers, where set so."""
        near = self._settings.audit_rate_near_threshold
        risk, most = outcome.assessment.score, outcome.decision.accept_below
        if near is None or most is None or isinstance(risk, Missing) or risk <= most / 2:
            return self._rate
        return near

    async def _watch(self) -> None:
        """Read what other replicas and reviewers wrote, again and again."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self._read()

    async def _read(self) -> None:
        if self.promise is not None:
            await self._in_background(partial(try_to_read, self.promise))

    async def _age(self) -> None:
        """Delete what is too old, again and again."""
        while days := self._settings.records_retention_days:
            try:
                cutoff = self._clock.now() - timedelta(days=days)
                await self._in_background(partial(self._delete, cutoff))
            except Exception:  # a task's edge: whatever the storage raises, it is tried again
                log.exception("retention_failed")
            await asyncio.sleep(RETENTION_SECONDS)

    def _delete(self, cutoff: datetime) -> None:
        deleted = delete_before(self.store, cutoff)
        days = 0 if self._archive is None else self._archive.delete_before(cutoff)
        log.info("retention", answers=deleted.answers, outcomes=deleted.outcomes, image_days=days)

    async def _in_background(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._background, work)


def _observe(outcome: Outcome, ask: Ask) -> None:
    """Give the promise the stage-one risk, whatever stage decided."""
    assessment, rules = outcome.assessment, ask.rules
    promise = rules.promise
    if promise is None:
        return
    if promise.drift is not None and assessment.stage == 2:
        unasked = replace(assessment.signals, self_consistency=Missing("not_requested"))
        assessment = rules.bundle.assess(unasked)
    promise.observe(assessment.score, ask.group or ask.picture.sha256)


def try_to_read(promise: Promise) -> None:
    """Read the audits of a promise; logs a database that does not work now."""
    try:
        promise.read()
    except RecordsUnavailable as error:
        log.warning("audits_not_read", detail=str(error))
    except Exception:  # a thread's edge; what cannot be checked does not count as fine
        promise.state = "unread"
        log.exception("audits_not_read")


def open_store(settings: Settings) -> RecordStore:
    """The store that the settings name, with the key that signs. Raises RecordsError."""
    url = settings.records_database
    if url is None:
        raise RecordsError(f"{PREFIX}RECORDS_URL is empty: there are no records; name a database")
    try:
        settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = SigningKey.load_or_create(settings.records_key_path)
    except OSError as error:
        raise RecordsError(
            f"{PREFIX}STATE_FOLDER: {error}; name a folder that can be written, or set "
            f"{PREFIX}RECORDS_URL= (empty) to keep no records"
        ) from error
    return RecordStore(
        url,
        writer=socket.gethostname(),
        key=key,
        prepared=settings.records_prepared_statements,
    )


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(f"{detail}; try again", kind="records_unavailable", retry_after=5)
