"""vLLM against the transformers engine on a Qwen2-VL: M-RoPE, images of any shape, grouped heads.

At the end its engine core is killed: the engine says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.types import NOTHING, POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.base import EngineError
from service.engines.transformers.engine import TransformersEngine

LAYERS = tuple(range(7))
READ_ALL = Readout(LAYERS, POSITIONS, None, LAYERS[1:])
NUMBERS = np.random.default_rng(5)
QUERIES = [
    Query(NUMBERS.integers(0, 256, (*shape, 3), np.uint8), "what is it? " * (at + 1), 6)
    for at, shape in enumerate([(224, 224), (90, 130), (300, 100), (64, 250)])
]


@pytest.fixture(scope="module")
def expected(qwen2vl_folder: Path) -> list[Generation]:
    engine = TransformersEngine(str(qwen2vl_folder), device="cpu")

    async def read() -> list[Generation]:
        await engine.start()
        answers = await asyncio.gather(*(engine.generate(query, READ_ALL) for query in QUERIES))
        await engine.close()
        return list(answers)

    return asyncio.run(read())


@pytest.fixture(scope="module")
def engine(qwen2vl_on_vllm: Any) -> Any:
    return qwen2vl_on_vllm


def check(one: Generation, other: Generation) -> None:
    assert other.token_ids == one.token_ids
    for place, value in one.trace.readouts.items():
        again = other.trace.readouts[place]
        assert not isinstance(value, Missing)
        assert not isinstance(again, Missing)
        assert np.abs(again - value).max() <= 1e-3 * np.abs(value).max(), place
    first, second = one.trace.attention, other.trace.attention
    assert isinstance(first, AttentionMaps)
    assert isinstance(second, AttentionMaps), second
    assert second.grid == first.grid
    np.testing.assert_allclose(second.prompt_last, first.prompt_last, atol=1e-3)
    assert not isinstance(first.answer_mean, Missing)
    assert not isinstance(second.answer_mean, Missing)
    np.testing.assert_allclose(second.answer_mean, first.answer_mean, atol=1e-3)


def test_images_of_any_shape_alone_and_together(engine: Any, expected: list[Generation]) -> None:
    for query, one in zip(QUERIES, expected, strict=True):
        check(one, asyncio.run(engine.generate(query, READ_ALL)))

    async def together() -> list[Generation]:
        return await asyncio.gather(*(engine.generate(query, READ_ALL) for query in QUERIES))

    for one, other in zip(expected, asyncio.run(together()), strict=True):
        check(one, other)
    grids = {one.trace.attention.grid for one in expected if not isinstance(
        one.trace.attention, Missing)}  # fmt: skip
    assert len(grids) >= 3


def test_after_preemption(engine: Any, qwen2vl_folder: Path) -> None:
    """Answers of 60 tokens in a cache that holds about three of them: most are begun again."""
    queries = [
        Query(NUMBERS.integers(0, 256, (224, 224, 3), np.uint8), "what is it? " * (at % 4), 60)
        for at in range(10)
    ]
    reference = TransformersEngine(str(qwen2vl_folder), device="cpu")

    async def read() -> list[Generation]:
        await reference.start()
        answers = await asyncio.gather(*(reference.generate(q, READ_ALL) for q in queries))
        await reference.close()
        return list(answers)

    async def together() -> tuple[list[Generation], int]:
        found = await asyncio.gather(*(engine.generate(query, READ_ALL) for query in queries))
        (status,) = await engine.run(engine.engine._call("vlm_gate_status"))
        return list(found), status["preempted"]

    answers, preempted = asyncio.run(together())
    assert preempted > 0
    for one, other in zip(asyncio.run(read()), answers, strict=True):
        check(one, other)


def test_an_engine_that_dies_is_told_and_closed(
    engine: Any, qwen2vl_folder: Path, start_vllm: Any
) -> None:
    assert not start_vllm(qwen2vl_folder, eager=True).healthy
    assert engine.healthy
    inner = engine.engine

    async def scenario() -> list[Any]:
        asked = [asyncio.create_task(engine.generate(query, NOTHING)) for query in QUERIES]
        for process in inner._llm.engine_core.resources.engine_manager.processes:
            os.kill(process.pid, signal.SIGKILL)
        return await asyncio.gather(*asked, return_exceptions=True)

    results = asyncio.run(scenario())
    assert any(isinstance(each, EngineError) for each in results)
    with pytest.raises(EngineError):
        asyncio.run(engine.generate(QUERIES[0], NOTHING))
    assert not engine.healthy
    asyncio.run(engine.close())
    asyncio.run(engine.close())
    with pytest.raises(EngineError, match="not running"):
        asyncio.run(engine.sample(QUERIES[0], 1, temperature=1.0, top_p=1.0, seed=0))
