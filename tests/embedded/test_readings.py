"""What the comparison reads of the embedded models, against transformers' own eager outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from probes.types import (
    NOTHING,
    AttentionMaps,
    Generation,
    LensMargins,
    Missing,
    Query,
    QuestionMaps,
    Readout,
)
from service.engines.transformers.engine import TransformersEngine
from service.engines.words import Words
from testbed.drawing import render
from testbed.scenes import make_scene

MODELS = Path(__file__).parents[2] / "testbed" / "models"
QUERIES = [
    Query(render(make_scene(310_000 + seed, "line")), question, 8)
    for seed, question in enumerate(
        ("Does the screw sit above the label?", "How many gears are there?", "Is a screw missing?")
    )
]
LAYERS = (1, 2, 3, 4, 5, 6)
READ = Readout(LAYERS, ("prompt_last",), None, LAYERS, heads=True, question=True, lens=True)


@pytest.fixture(scope="module", params=["llava", "paligemma", "qwen2vl"])
def engine(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(
        str(MODELS / request.param), device="cpu", dtype="float32", batch_wait_seconds=30.0
    )
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def answers(engine: TransformersEngine) -> list[Generation]:
    async def go() -> list[Generation]:
        return await asyncio.gather(*(engine.generate(query, READ) for query in QUERIES))

    return asyncio.run(go())


def test_attention_of_the_words_and_of_every_head(
    engine: TransformersEngine, answers: list[Generation]
) -> None:
    loaded, _ = engine._ready()
    model = loaded._model
    implementation = model.get_decoder().config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        for query, answer in zip(QUERIES, answers, strict=True):
            prompt = loaded.prepare(query, 0.0)
            words = loaded.words(prompt)
            with torch.inference_mode():
                out = model(**prompt.inputs, output_attentions=True)
            maps, heads = answer.trace.question, answer.trace.heads
            assert isinstance(words, Words)
            assert isinstance(maps, QuestionMaps)
            assert isinstance(heads, AttentionMaps)
            for at, layer in enumerate(out.attentions):
                rows = layer[0][:, :, prompt.image_positions].numpy()
                mean = rows.mean(0)
                content, boundary = mean[list(words.content)], mean[list(words.boundary)]
                np.testing.assert_allclose(maps.content[at], content.mean(0), atol=1e-6)
                np.testing.assert_allclose(maps.boundary[at], boundary.mean(0), atol=1e-6)
                np.testing.assert_allclose(heads.prompt_last[at], rows[:, -1], atol=1e-6)
    finally:
        model.set_attn_implementation({"text_config": implementation})


def test_the_words_are_the_question_s(engine: TransformersEngine) -> None:
    loaded, _ = engine._ready()
    prompt = loaded.prepare(QUERIES[0], 0.0)
    words = loaded.words(prompt)
    assert isinstance(words, Words)
    ids = prompt.inputs["input_ids"][0][list(words.content)]
    assert loaded._processor.tokenizer.decode(ids).split() == ["screw", "sit", "above", "label"]


def test_the_last_layer_s_lens_is_the_first_answer_token(answers: list[Generation]) -> None:
    for answer in answers:
        lens = answer.trace.lens
        assert isinstance(lens, LensMargins)
        assert lens.top[-1] == pytest.approx(answer.trace.first_token_margin, abs=1e-4)
        assert not isinstance(lens.yes_no, Missing)
        if answer.answer in ("yes", "no"):
            assert abs(lens.yes_no[-1]) >= lens.top[-1] - 1e-4
            assert (lens.yes_no[-1] > 0) == (answer.answer == "yes")


def test_the_answer_scores_as_it_was_given(
    engine: TransformersEngine, answers: list[Generation]
) -> None:
    async def go() -> None:
        scores = await asyncio.gather(
            *(
                engine.score(query, answer.token_ids)
                for query, answer in zip(QUERIES, answers, strict=True)
            )
        )
        for score, answer in zip(scores, answers, strict=True):
            assert score.greedy
            assert score.logprob == pytest.approx(float(answer.trace.logprobs.sum()), abs=1e-4)

    asyncio.run(go())


def test_a_whole_layer_held_at_zero_is_another_model(
    engine: TransformersEngine, answers: list[Generation]
) -> None:
    with engine.ablated(3, range(engine.identity.hidden_size), [0.0] * engine.identity.hidden_size):
        held = asyncio.run(engine.generate(QUERIES[1], NOTHING))
    again = asyncio.run(engine.generate(QUERIES[1], NOTHING))
    assert again.token_ids == answers[1].token_ids
    assert held.trace.first_token_margin != pytest.approx(again.trace.first_token_margin, abs=1e-2)
