"""vLLM on a PaliGemma: tapped, compiled, image and question attending both ways.

The CPU's attention knows no ranges, so the plugin computes them there; which ranges, when, and of
which requests is what a GPU's backends are given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.types import POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.transformers.engine import TransformersEngine

LAYERS = tuple(range(7))
READ_ALL = Readout(LAYERS, POSITIONS, None, LAYERS[1:])
NUMBERS = np.random.default_rng(6)
IMAGES = [NUMBERS.integers(0, 256, (100, 80, 3), np.uint8) for _ in range(3)]
QUERIES = [
    Query(image, "is there a dent? " * count + end, 96)
    for image in IMAGES
    for count, end in ((1, ""), (3, "what is it?"), (3, "where?"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, random_model: Any) -> Path:
    path: Path = random_model("paligemma", tmp_path_factory.mktemp("paligemma") / "paligemma")
    return path


@pytest.fixture(scope="module")
def engine(folder: Path, start_vllm: Any) -> Iterator[Any]:
    engine = start_vllm(folder, eager=False, num_gpu_blocks_override=20)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[Generation]:
    async def read() -> list[Generation]:
        reference = TransformersEngine(str(folder), device="cpu")
        await reference.start()
        answers = await asyncio.gather(*(reference.generate(q, READ_ALL) for q in QUERIES))
        await reference.close()
        return list(answers)

    return asyncio.run(read())


def same(found: Generation, expected: Generation) -> None:
    assert found.token_ids == expected.token_ids
    for place, value in expected.trace.readouts.items():
        again = found.trace.readouts[place]
        if isinstance(value, Missing):
            assert again == value
            continue
        assert not isinstance(again, Missing)
        assert np.abs(again - value).max() <= 1e-3 * np.abs(value).max(), place
    assert isinstance(found.trace.attention, AttentionMaps)
    assert isinstance(expected.trace.attention, AttentionMaps)
    assert found.trace.attention.grid == (8, 8)
    np.testing.assert_allclose(
        found.trace.attention.prompt_last, expected.trace.attention.prompt_last, atol=1e-3
    )


def test_alone_and_from_the_cache_of_the_same_prompt(
    engine: Any, expected: list[Generation]
) -> None:
    for query, wanted in zip(QUERIES, expected, strict=True):
        for _ in range(2):
            same(asyncio.run(engine.generate(query, READ_ALL)), wanted)


def test_together_and_after_preemption(engine: Any, expected: list[Generation]) -> None:
    async def preempted() -> int:
        [state] = await engine.run(engine.engine._call("vlm_gate_status"))
        return int(state["preempted"])

    async def together() -> list[Generation]:
        return await asyncio.gather(*(engine.generate(query, READ_ALL) for query in QUERIES))

    before = asyncio.run(preempted())
    for found, wanted in zip(asyncio.run(together()), expected, strict=True):
        same(found, wanted)
    assert asyncio.run(preempted()) > before


def test_an_answer_to_score_is_not_part_of_the_prompt(
    engine: Any, expected: list[Generation]
) -> None:
    for query, wanted in zip(QUERIES, expected, strict=True):
        tokens = wanted.token_ids[:3]
        score = asyncio.run(engine.score(query, tokens))
        assert score.logprob == pytest.approx(wanted.trace.logprobs[:3].sum(), abs=1e-3)


def test_the_start_up_check_found_attention_as_recomputed(engine: Any) -> None:
    assert engine.engine.attention_missing is None
    assert max(engine.engine.attention_deviation.values()) < 1e-3
