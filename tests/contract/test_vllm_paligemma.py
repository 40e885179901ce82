"""vLLM on a PaliGemma: a decoder without vLLM's own path for hidden states, tapped and compiled.

The CPU's attention does not honour the image's prefix, which attends both ways; so the states at
the last prompt token are compared with transformers' own only in so far as they agree there: at the
input of the decoder. What is recomputed of attention is held against the layers' own output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.types import POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.transformers import TransformersEngine

LAYERS = tuple(range(7))
READ_ALL = Readout(LAYERS, POSITIONS, None, LAYERS[1:])
NUMBERS = np.random.default_rng(6)
QUERIES = [
    Query(NUMBERS.integers(0, 256, (100, 80, 3), np.uint8), "is there a dent? " * (at + 1), 4)
    for at in range(4)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, random_model: Any) -> Path:
    path: Path = random_model("paligemma", tmp_path_factory.mktemp("paligemma") / "paligemma")
    return path


@pytest.fixture(scope="module")
def engine(folder: Path, start_vllm: Any) -> Iterator[Any]:
    engine = start_vllm(folder, eager=False)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


def test_taps_read_every_layer_of_the_compiled_model(engine: Any, folder: Path) -> None:
    reference = TransformersEngine(str(folder), device="cpu")

    async def read() -> list[Generation]:
        await reference.start()
        answers = await asyncio.gather(*(reference.generate(q, READ_ALL) for q in QUERIES))
        await reference.close()
        return list(answers)

    async def together() -> list[Generation]:
        return await asyncio.gather(*(engine.generate(query, READ_ALL) for query in QUERIES))

    alone = [asyncio.run(engine.generate(query, READ_ALL)) for query in QUERIES]
    for one, mixed, expected in zip(
        alone, asyncio.run(together()), asyncio.run(read()), strict=True
    ):
        assert one.token_ids == mixed.token_ids
        for place, value in one.trace.readouts.items():
            assert not isinstance(value, Missing)
            np.testing.assert_allclose(mixed.trace.readouts[place], value, atol=1e-3)
        wanted = expected.trace.readouts[0, "prompt_last"]
        np.testing.assert_allclose(one.trace.readouts[0, "prompt_last"], wanted, atol=1e-3)
        assert isinstance(one.trace.attention, AttentionMaps)
        assert one.trace.attention.grid == (8, 8)


def test_attention_is_the_layers_own(engine: Any) -> None:
    assert engine.engine.attention_missing is None
    assert max(engine.engine.attention_deviation.values()) < 1e-3
