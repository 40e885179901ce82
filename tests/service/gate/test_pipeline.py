"""When samples are drawn: beside the answer where they are needed anyway, and never for nobody."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import numpy as np
import pytest

from probes.model.policy import Policy
from probes.signals.sampling import CHUNK, sample_seed
from probes.types import ConsistencyMode, Missing, Query, SelfConsistency
from service.engines.base import EngineError
from service.engines.fake import FakeEngine
from service.gate.ask import Ask, Outcome
from service.gate.pipeline import run
from service.gate.rules import Rules
from service.gate.stages import Stages
from service.images.picture import Picture

pytestmark = pytest.mark.anyio
QUERY = Query(np.full((48, 64, 3), 200, np.uint8), "Is it whole?")
SAMPLES = 2 * CHUNK


class Watched(FakeEngine):
    """Tells what began and ended, and what was drawn; each may be made to wait or fail."""

    def __init__(self) -> None:
        super().__init__(answer_for=lambda query: "yes")
        self.told: list[str] = []
        self.drawn: list[tuple[int, int]] = []
        self.sampling, self.answered = asyncio.Event(), asyncio.Event()
        self.sampled = asyncio.Event()
        self.answer_waits_for: asyncio.Event | None = None
        self.samples_wait_for: asyncio.Event | None = None
        self.fails: dict[str, Exception] = {}

    async def generate(self, *arguments: Any) -> Any:
        return await self._tell(
            "answer", self.answer_waits_for, super().generate(*arguments), self.answered
        )

    async def sample(self, query: Query, count: int, **how: Any) -> Any:
        self.drawn.append((count, how["seed"]))
        self.sampling.set()
        return await self._tell(
            "samples", self.samples_wait_for, super().sample(query, count, **how), self.sampled
        )

    async def _tell(self, name: str, awaited: asyncio.Event | None, work: Any, done: Any) -> Any:
        self.told.append(f"{name} begin")
        try:
            if awaited is not None:
                await awaited.wait()
            if name in self.fails:
                raise self.fails[name]
            result = await work
        except asyncio.CancelledError:
            self.told.append(f"{name} cancelled")
            raise
        finally:
            work.close()
        self.told.append(f"{name} end")
        done.set()
        return result


@pytest.fixture
async def engine() -> Watched:
    engine = Watched()
    await engine.start()
    return engine


@pytest.fixture(autouse=True)
async def _nothing_is_left(engine: Watched):
    """No task outlives its request, and no error is lost with one."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    yield
    left = [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task)]
    assert left == []
    engine.fails.clear()  # their tracebacks hold on to the tasks
    gc.collect()
    assert complaints == []


@pytest.fixture
def ask(engine: Watched, bundled):
    """Asks one question of the engine under test."""

    async def one(
        mode: ConsistencyMode, threshold: float = 0.5, stages: Stages | None = None
    ) -> Outcome:
        bundle = bundled(threshold=threshold, policy=Policy())
        asked = Ask(
            query=QUERY,
            self_consistency=mode,
            samples=SAMPLES,
            evidence=False,
            picture=cast(Picture, None),
            metadata={},
            group=None,
            rules=Rules(bundle, bundle.policy),
        )
        async with asyncio.timeout(20):
            return await run(asked, engine, stages or Stages())

    return one


async def test_always_draws_the_first_samples_beside_the_answer(engine, ask):
    engine.answer_waits_for = engine.sampling
    outcome = await ask("always")
    assert isinstance(outcome.assessment.signals.self_consistency, SelfConsistency)
    assert engine.told[:2] == ["answer begin", "samples begin"]


async def test_the_samples_are_those_that_were_certified(engine, ask):
    engine.answer_waits_for = engine.sampled  # as early as can be
    outcome = await ask("always")
    seed = sample_seed(QUERY)
    assert engine.drawn == [(CHUNK, seed), (CHUNK, seed + CHUNK)]
    engine.answer_waits_for, engine.samples_wait_for = None, engine.answered  # as late
    assert (await ask("always")).assessment == outcome.assessment
    assert engine.drawn[2:] == engine.drawn[:2]


async def test_the_time_of_samples_is_what_there_is_to_wait_for_them(engine, ask):
    engine.answer_waits_for = engine.sampled
    stages = Stages()
    await ask("always", 1.0, stages)
    assert engine.drawn == [(CHUNK, sample_seed(QUERY))]  # settled by the first
    (answered,) = [span for span in stages.spans if span[0] == "generate"]
    (sampled,) = [span for span in stages.spans if span[0] == "sample"]
    assert sampled[1] >= answered[2]


async def test_auto_and_never_wait_for_the_risk(engine, ask):
    await ask("never")
    await ask("auto", 1.0)
    assert engine.drawn == []
    await ask("auto", 1e-9)
    assert engine.told.index("samples begin") > engine.told.index("answer end")


async def test_no_answer_no_samples(engine, ask):
    engine.samples_wait_for = asyncio.Event()
    engine.answer_waits_for = engine.sampling
    engine.fails["answer"] = EngineError("no answer")
    with pytest.raises(EngineError, match="no answer"):
        await ask("always")
    assert engine.told[-1] == "samples cancelled"


async def test_of_two_failures_the_answers_is_told(engine, ask):
    engine.answer_waits_for = engine.sampling
    engine.fails = {"answer": EngineError("no answer"), "samples": EngineError("no samples")}
    with pytest.raises(EngineError, match="no answer"):
        await ask("always")


async def test_failed_samples_are_missing(engine, ask):
    engine.fails["samples"] = EngineError("no samples")
    outcome = await ask("always")
    assert outcome.assessment.signals.self_consistency == Missing("engine_error")
    assert outcome.decision.reason == "signal_unavailable"


async def test_a_bug_in_sampling_is_no_missing_signal(engine, ask):
    engine.fails["samples"] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await ask("always")


@pytest.mark.parametrize("when", ["before the answer", "after it"])
async def test_cancelled_with_its_request(engine, ask, when):
    engine.samples_wait_for = asyncio.Event()
    reached = engine.answered
    if when == "before the answer":
        engine.answer_waits_for, reached = asyncio.Event(), engine.sampling
    asked = asyncio.create_task(ask("always"))
    async with asyncio.timeout(20):
        await reached.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert "samples cancelled" in engine.told
