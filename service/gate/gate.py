"""Everything that lives as long as the service: engine, rules, queue, records, and their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, TypeVar

import structlog

from probes.errors import BundleError
from probes.model.bundle import Bundle, check_identity
from service.access.quota import Quota
from service.engines.base import Engine, EngineError, EngineOverloaded, QueryRefused
from service.engines.watched import Watched
from service.errors import Invalid, Overloaded, TooLate, Unavailable
from service.gate.admission import Admission
from service.gate.arrival import HeldBytes
from service.gate.ask import Ask, Outcome
from service.gate.observer import Observer
from service.gate.parity import ParityError, check_parity
from service.gate.pipeline import run
from service.gate.record_keeping import RecordKeeping
from service.gate.rules import Rules
from service.gate.stages import Stages
from service.images.fetch_url import ImageUrls
from service.images.picture import Picture
from service.images.pool import Decoders, DecodersError
from service.records.errors import RecordsError
from service.settings import Settings

log = structlog.get_logger("service.gate.gate")
Result = TypeVar("Result")
ASIDE = 2
"""Threads for what is not parsing: images without decoder processes, other rules."""
SMALL_BYTES = 2**16
"""Parsed in less time than handing it to a thread would take."""
State = Literal[
    "starting", "ready", "failed", "draining", "records_unavailable", "decoders_unavailable"
]


class Gate:
    """The running service behind its routes.

    Args:
        settings: how to run.
        engine: not started yet.
        rules: what the first requests are judged by.
        observer: counts what is lost, and takes the thresholds of other rules.

    Raises:
        RecordsError: the records' settings cannot be used.
    """

    def __init__(
        self, settings: Settings, engine: Engine, rules: Rules, observer: Observer
    ) -> None:
        self.settings = settings
        self.engine = Watched(engine, settings.engine_timeout_seconds)
        self.rules = rules
        """What a request that begins now is judged by."""
        self.admission = Admission(settings.max_inflight, settings.max_queue)
        largest = settings.max_body_bytes  # one body always fits
        self.held = HeldBytes(
            max(settings.max_held_bytes, largest),
            max(settings.max_held_bytes_per_caller, largest),
        )
        self.record_keeping: RecordKeeping | None = None
        self.quota = Quota(settings.quota_per_second, settings.quota_burst)
        self._observer = observer
        if settings.records_database is not None:
            self.record_keeping = RecordKeeping(settings, observer)
            self.follow(self.with_promise(self.rules))
        # One: parsing holds the interpreter, so two would only hold more bodies and the loop up.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parse")
        self._aside = ThreadPoolExecutor(ASIDE, thread_name_prefix="aside")
        self._decoders = (
            Decoders(settings.decode_processes, settings.max_image_bytes, settings.max_pixels)
            if settings.decode_processes
            else None
        )
        self.image_urls = ImageUrls(
            settings.image_url_hosts, settings.max_image_bytes, settings.image_url_seconds
        )
        self.changing = asyncio.Lock()
        """Held while other rules are put in force."""
        self._state: State = "starting"
        self.leaving = False
        """Asked to end: not ready any more, and still answering until the listener closes."""
        self.why = "the self-test is still running"
        self.tested = asyncio.Event()
        self.engine_started = False
        self.parity: bool | None = None
        """Whether the self-test passed; None while it has not ended."""

    @property
    def bundle(self) -> Bundle:
        """The bundle in force."""
        return self.rules.bundle

    def with_promise(self, rules: Rules) -> Rules:
        """The rules with a promise to watch, which is not read yet."""
        if self.record_keeping is None:
            return rules
        return replace(rules, promise=self.record_keeping.promise_of(rules.bundle, rules.policy))

    def follow(self, rules: Rules) -> None:
        """Put rules in force. Requests that began before keep theirs."""
        before, self.rules = self.rules, rules
        if self.record_keeping is not None:
            self.record_keeping.promise = rules.promise
        if (edges := _edges(rules)) != _edges(before):
            self._observer.set_thresholds(edges)

    def now_ready(self) -> None:
        """Say ready: the self-test passed."""
        self.parity = True
        self._state, self.why = "ready", ""

    @property
    def state(self) -> State:
        """The state that ``/readyz`` reports."""
        if self.leaving or self.admission.draining:
            return "draining"
        if (
            self._state == "ready"
            and self.record_keeping is not None
            and not self.record_keeping.ready
        ):
            return "records_unavailable"
        if self._state == "ready" and self._decoders is not None and not self._decoders.working:
            return "decoders_unavailable"
        return self._state

    async def start(self) -> None:
        """Start the engine and check that it runs the bundle's model.

        Raises:
            DecodersError: no process can be started.
            EngineError: the model cannot be loaded. BundleError: the bundle belongs to another.
            RecordsError: the records' tables are of a newer version.
        """
        try:
            if self._decoders is not None:
                await self._decoders.start()
            await self.engine.start()
            self.engine_started = True
            self.check_identity(self.rules)
            if self.record_keeping is not None:
                await self.record_keeping.start()
        except (BundleError, DecodersError, EngineError, RecordsError) as error:
            self._state, self.why = "failed", str(error)
            await self.engine.close()
            if self._decoders is not None:
                await self._decoders.close()
            raise
        log.info("started", model=self.bundle.model.name, bundle=self.bundle.id)
        self.rules.warn()

    def check_identity(self, rules: Rules) -> None:
        """Raise BundleError unless the engine runs the rules' model, and the candidate's."""
        check_identity(rules.bundle, self.engine.identity)
        if rules.candidate is not None:
            check_identity(rules.candidate.bundle, self.engine.identity)

    async def test(self) -> None:
        """Run the parity self-test. The gate is ready after it, or has failed for good."""
        try:
            await check_parity(self.engine, self.rules)
        except (ParityError, EngineError) as error:
            self.parity = False
            self._state, self.why = "failed", f"the parity self-test failed: {error}"
            log.error("self_test_failed", detail=str(error))
        else:
            self.now_ready()
            log.info("ready")
        self.tested.set()

    async def close(self) -> None:
        """Finish what was admitted, then let go of the model."""
        await self.admission.drain()
        if self.record_keeping is not None:
            await self.record_keeping.close()  # first: an engine that hangs must not cost a record
        await self.engine.close()
        if self._decoders is not None:
            await self._decoders.close()
        self._parser.shutdown()
        self._aside.shutdown()
        self.image_urls.close()
        log.info("closed")

    def check_ready(self) -> None:
        """Raise Unavailable unless questions can be answered now."""
        if self._state != "ready":
            kind = "not_ready" if self._state == "starting" else "self_test_failed"
            why = f"not ready: {self.why}; GET /readyz tells when"
            raise Unavailable(why, kind=kind, retry_after=5)
        if self.engine.hung:
            raise Unavailable(
                "the engine hangs; send the request to another instance",
                kind="engine_hung",
                retry_after=5,
            )
        if self.record_keeping is not None:
            self.record_keeping.check()

    async def parse(self, size: int, work: Callable[[], Result]) -> Result:
        """Parse ``size`` bytes; large ones wait for the thread that parses, off the event loop."""
        if size <= SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._parser, work)

    async def aside(self, work: Callable[[], Result]) -> Result:
        """Run something on a thread, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)

    async def decode(self, file: bytes, caller: str) -> Picture:
        """Decode an image file; callers take turns. Raises TooLarge, UnsupportedType, Invalid."""
        settings = self.settings
        if self._decoders is not None:
            picture = await self._decoders.decode(file, caller)
        else:
            most = settings.max_image_bytes, settings.max_pixels
            picture = await self.aside(lambda: Picture.decode(file, *most))
        if picture.damage is not None and settings.damaged_images == "refuse":
            raise Invalid(
                f"the image's file is damaged ({picture.damage}); send it whole",
                field="image",
                kind="damaged_image",
            )
        return picture

    async def run_and_record(self, ask: Ask, stages: Stages, answer_id: str) -> Outcome:
        """Run the pipeline and keep a record; returns the outcome that the caller gets.

        Raises ServiceError: there is no answer, or it had to be recorded and could not be.
        """
        outcome = await self._run_or_refuse(ask, stages)
        if self.record_keeping is None:
            return outcome
        return await self.record_keeping.keep(ask, outcome, stages, answer_id)

    async def _run_or_refuse(self, ask: Ask, stages: Stages) -> Outcome:
        """Run the pipeline; the engine's errors become errors that the caller can act on."""
        try:
            return await run(ask, self.engine, stages)
        except QueryRefused as error:
            raise Invalid(str(error), field="question", kind="query_refused") from error
        except EngineOverloaded as error:
            seconds = self.admission.retry_after()
            raise Overloaded(
                f"the model's queue is full; try again in {seconds} s",
                kind="engine_overloaded",
                retry_after=seconds,
            ) from error
        except EngineError as error:
            log.error("engine_failed", detail=str(error))
            raise Unavailable(
                "the model could not answer; try again, and tell the operator if it stays so",
                kind="engine_error",
                retry_after=self.admission.retry_after(),
            ) from error

    def deadline(self, seconds: float | None = None, stages: Stages | None = None) -> TooLate:
        """The error for a request that took too long, by default longer than the setting's time.

        Args:
            stages: those that it reached, where known: the last one says what took the time.
        """
        limit = self.settings.deadline_seconds if seconds is None else seconds
        return TooLate(f"no answer within {limit:g} s{_cause(stages)}", kind="deadline")


def _cause(stages: Stages | None) -> str:
    """What a late request was waiting for, and what to do about it."""
    reached = {"generate"} if stages is None else stages.seconds.keys()
    if "generate" in reached:
        return "; try again with fewer samples or a lower max_tokens"
    if "decode" in reached:
        return ": the image was still being fetched or decoded; try again, or send a smaller one"
    return ": the body was still coming, or the request waited for its turn; try again later"


def _edges(rules: Rules) -> Mapping[str, float]:
    """The thresholds, even while their certificates are void: the histogram's edges stay."""
    return replace(rules, promise=None).thresholds()
