from __future__ import annotations

import asyncio

import numpy as np
import pytest

from probes.types import NOTHING, Missing, Query, Readout
from service.engines.base import EngineError
from service.engines.fake import FakeEngine

QUERY = Query(np.zeros((4, 4, 3), np.uint8), "left or right?")


def started(engine: FakeEngine) -> FakeEngine:
    asyncio.run(engine.start())
    return engine


def test_answers_and_states_are_known_beforehand() -> None:
    engine = started(FakeEngine(hidden_size=6, answer_for=lambda query: " left "))
    answer = asyncio.run(engine.generate(QUERY, Readout((1,), ("answer_last",))))
    assert (answer.answer, answer.finish_reason) == ("left", "stop")
    np.testing.assert_array_equal(
        answer.trace.readouts[1, "answer_last"], engine.state(QUERY, 1, "answer_last")
    )


def test_another_image_or_question_is_another_query() -> None:
    engine = FakeEngine()
    image = np.ones((4, 4, 3), np.uint8)
    states = [
        engine.state(query, 1, "prompt_last")
        for query in (QUERY, Query(image, QUERY.question), Query(QUERY.image, "?"))
    ]
    assert len({state.tobytes() for state in states}) == 3


def test_an_empty_answer_has_no_answer_state() -> None:
    engine = started(FakeEngine(answer_for=lambda query: ""))
    answer = asyncio.run(engine.generate(QUERY, Readout((1,), ("answer_mean",), None, (1,))))
    assert answer.trace.readouts[1, "answer_mean"] == Missing("empty_answer")


def test_samples_by_index() -> None:
    engine = started(FakeEngine(sample_for=lambda query, index: "ab"[index % 2]))
    samples = asyncio.run(engine.sample(QUERY, 4, temperature=1.0, top_p=1.0, seed=0))
    assert samples == ("a", "b", "a", "b")


def test_hold_and_release() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        await engine.start()
        engine.hold()
        task = asyncio.create_task(engine.generate(QUERY, NOTHING))
        await asyncio.sleep(0)
        assert not task.done()
        engine.release()
        assert (await task).answer in ("yes", "no")

    asyncio.run(scenario())


def test_failure() -> None:
    engine = started(FakeEngine())
    engine.failure = EngineError("out of order")
    assert not engine.healthy
    with pytest.raises(EngineError, match="out of order"):
        asyncio.run(engine.generate(QUERY, NOTHING))
