"""What the transformers engine reads for the offline comparison, against the eager model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

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
from service.engines.base import EngineError
from service.engines.transformers.engine import TransformersEngine

NUMBERS = np.random.default_rng(5)
IMAGE = NUMBERS.integers(0, 256, (90, 150, 3), np.uint8)
QUERIES = [Query(IMAGE, "Is a red gear left?", 4), Query(IMAGE, "Which thing is above it then?", 3)]
READ = Readout((1, 4), ("prompt_last",), None, (2, 3), heads=True, question=True, lens=True)


@pytest.fixture(scope="module")
def engine(tiny_llava: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(str(tiny_llava), device="cpu", batch_wait_seconds=30.0)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def answers(engine: TransformersEngine) -> list[Generation]:
    return asyncio.run(generate(engine, READ))


@pytest.fixture(scope="module")
def outputs(tiny_llava: Path) -> list[tuple[list[int], Any]]:
    """Each prompt's tokens and the eager model's whole output."""
    processor: Any = AutoProcessor.from_pretrained(tiny_llava, backend="pil")
    model: Any = AutoModelForImageTextToText.from_pretrained(
        tiny_llava, attn_implementation="eager"
    ).eval()
    found = []
    for query in QUERIES:
        turn = [{"type": "image"}, {"type": "text", "text": query.question}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True
        )
        inputs = processor(images=[Image.fromarray(IMAGE)], text=[prompt], return_tensors="pt")
        with torch.inference_mode():
            out = model(**inputs, output_attentions=True, output_hidden_states=True)
            out.lens = model.lm_head(model.get_decoder().norm(out.hidden_states[1][0, -1]))
        found.append((inputs["input_ids"][0].tolist(), out))
    return found


async def generate(engine: TransformersEngine, readout: Readout) -> list[Generation]:
    return await asyncio.gather(*(engine.generate(query, readout) for query in QUERIES))


def test_heads(answers: list[Generation], outputs: list[tuple[list[int], Any]]) -> None:
    for answer, (ids, out) in zip(answers, outputs, strict=True):
        heads, mean = answer.trace.heads, answer.trace.attention
        assert isinstance(heads, AttentionMaps)
        assert isinstance(mean, AttentionMaps)
        assert not isinstance(heads.answer_mean, Missing)
        assert not isinstance(mean.answer_mean, Missing)
        image = np.flatnonzero(np.array(ids) == 3)
        for at, layer in enumerate((2, 3)):
            expected = out.attentions[layer - 1][0, :, -1, image]
            np.testing.assert_allclose(heads.prompt_last[at], expected, atol=1e-5)
        np.testing.assert_allclose(heads.answer_mean.mean(1), mean.answer_mean, atol=1e-6)
        np.testing.assert_allclose(heads.prompt_last.mean(1), mean.prompt_last, atol=1e-6)


def test_question_words(answers: list[Generation], outputs: list[tuple[list[int], Any]]) -> None:
    # One token per byte: "USER: " + the image + newline + question + " ASSISTANT:".
    for query, answer, (ids, out) in zip(QUERIES, answers, outputs, strict=True):
        maps = answer.trace.question
        assert isinstance(maps, QuestionMaps)
        image = np.flatnonzero(np.array(ids) == 3)
        start = image[-1] + 2  # behind the newline
        length = len(query.question)
        words = {"Is a red gear left?": ("red", "gear", "left")}.get(
            query.question, ("thing", "above")
        )
        content = [start + query.question.index(word) + at for word in words
                   for at in range(len(word))]  # fmt: skip
        boundary = [start - 1, *range(start + length, len(ids))]
        for at, layer in enumerate((2, 3)):
            rows = out.attentions[layer - 1][0].mean(0)[:, image].numpy()
            np.testing.assert_allclose(maps.content[at], rows[content].mean(0), atol=1e-6)
            np.testing.assert_allclose(maps.boundary[at], rows[boundary].mean(0), atol=1e-6)


def test_lens(answers: list[Generation], outputs: list[tuple[list[int], Any]]) -> None:
    for answer, (_, out) in zip(answers, outputs, strict=True):
        lens = answer.trace.lens
        assert isinstance(lens, LensMargins)
        assert lens.layers == (1, 4)
        best = out.lens.topk(2).values
        assert lens.top[0] == pytest.approx(float(best[0] - best[1]), abs=1e-4)
        assert lens.top[1] == pytest.approx(answer.trace.first_token_margin, abs=1e-4)
        assert lens.yes_no == Missing("no_yes_no_token"), "this tokenizer has bytes only"


def test_rows_that_ask_for_less_get_less(
    engine: TransformersEngine, answers: list[Generation]
) -> None:
    async def mixed() -> list[Generation]:
        plain = Readout(attention_layers=(3,))
        pairs = zip(QUERIES, (plain, READ), strict=True)
        return await asyncio.gather(*(engine.generate(query, read) for query, read in pairs))

    first, second = asyncio.run(mixed())
    whole = answers[0].trace.attention
    assert isinstance(first.trace.attention, AttentionMaps)
    assert isinstance(whole, AttentionMaps)
    np.testing.assert_allclose(
        first.trace.attention.prompt_last[0], whole.prompt_last[1], atol=1e-6
    )
    missing = Missing("not_requested")
    assert (first.trace.heads, first.trace.question, first.trace.lens) == (missing,) * 3
    assert isinstance(second.trace.lens, LensMargins)
    question, expected = second.trace.question, answers[1].trace.question
    assert isinstance(question, QuestionMaps)
    assert isinstance(expected, QuestionMaps)
    np.testing.assert_allclose(question.content, expected.content, atol=1e-6)


def test_ablated_neurons_are_held_and_let_go(
    engine: TransformersEngine, answers: list[Generation]
) -> None:
    read = Readout((1, 2, 4), ("prompt_last", "answer_last"))

    def states(neurons: tuple[int, ...]) -> list[Generation]:
        with engine.ablated(2, neurons, [0.5] * len(neurons)):
            return asyncio.run(generate(engine, read))

    before = asyncio.run(generate(engine, read))
    during = states((3, 7))
    after = asyncio.run(generate(engine, read))
    for old, held, new in zip(before, during, after, strict=True):
        np.testing.assert_allclose(held.trace.readouts[2, "prompt_last"][[3, 7]], 0.5)
        np.testing.assert_allclose(held.trace.readouts[2, "answer_last"][[3, 7]], 0.5)
        key = (4, "prompt_last")
        assert np.abs(held.trace.readouts[key] - old.trace.readouts[key]).max() > 1e-3
        np.testing.assert_allclose(
            held.trace.readouts[1, "prompt_last"], old.trace.readouts[1, "prompt_last"], atol=1e-5
        )
        assert new.token_ids == old.token_ids
        np.testing.assert_allclose(new.trace.readouts[key], old.trace.readouts[key], atol=1e-5)


def test_a_layer_that_is_not_there_cannot_be_ablated(engine: TransformersEngine) -> None:
    with pytest.raises(EngineError, match="layer: 5"), engine.ablated(5, (0,), (0.0,)):
        pass


def test_score_is_the_models_own(
    engine: TransformersEngine, outputs: list[tuple[list[int], Any]]
) -> None:
    """The first token of another answer, by the eager model's logits."""
    _, out = outputs[0]
    other = int(out.logits[0, -1].topk(2).indices[1])
    score = asyncio.run(engine.score(QUERIES[0], (other,)))
    expected = float(out.logits[0, -1].log_softmax(-1)[other])
    assert score.logprob == pytest.approx(expected, abs=1e-4)
    assert not score.greedy
    first = asyncio.run(engine.generate(QUERIES[0], NOTHING)).token_ids
    assert not asyncio.run(engine.score(QUERIES[0], first[:2])).greedy, "it does not end there"
    with pytest.raises(ValueError, match="no token of an answer"):
        asyncio.run(engine.score(QUERIES[0], (2,)))
