"""vLLM against the transformers engine on the embedded LLaVA: what is read, decided, answered.

The engine compiles the model, takes prompts in chunks of at most 64 tokens and has room in its
cache for about six requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.model.folder import read_bundle
from probes.signals.measure import measure
from probes.types import (
    NOTHING,
    POSITIONS,
    AttentionMaps,
    Generation,
    Missing,
    Query,
    Readout,
)
from service.engines.base import EngineError, EngineOverloaded, QueryRefused
from service.engines.transformers.engine import TransformersEngine
from service.settings import embedded
from testbed.drawing import render
from testbed.questions import ask
from testbed.scenes import make_scene

LAYERS = tuple(range(7))
READ_ALL = Readout(LAYERS, POSITIONS, None, LAYERS[1:])


def scene_queries(count: int) -> list[Query]:
    """Two questions on each scene, of lengths that differ."""
    found: list[Query] = []
    for seed in range(700_000, 700_000 + count):
        scene = make_scene(seed, "line")
        asked = ask(scene, np.random.default_rng(seed), n=2)
        found += [Query(render(scene), question.text, 24) for question in asked]
    return found[:count]


QUERIES = scene_queries(16)


def together(engine: Any, queries: Sequence[Query], readout: Readout) -> list[Generation]:
    async def all_of_them() -> list[Generation]:
        return await asyncio.gather(*(engine.generate(query, readout) for query in queries))

    return asyncio.run(all_of_them())


def close_enough(expected: Generation, found: Generation) -> None:
    """The same answer; readouts within 1e-3 of their largest entry, attention within 1e-3."""
    assert found.token_ids == expected.token_ids
    assert found.answer == expected.answer
    assert found.finish_reason == expected.finish_reason
    one, other = expected.trace, found.trace
    np.testing.assert_allclose(other.logprobs, one.logprobs, atol=1e-3)
    assert other.first_token_entropy == pytest.approx(one.first_token_entropy, abs=1e-3)
    assert other.first_token_margin == pytest.approx(one.first_token_margin, abs=1e-3)
    assert set(other.readouts) == set(one.readouts)
    for place, value in one.readouts.items():
        again = other.readouts[place]
        if isinstance(value, Missing):
            assert again == value
            continue
        assert not isinstance(again, Missing)
        assert np.abs(again - value).max() <= 1e-3 * np.abs(value).max(), place
    assert isinstance(one.attention, AttentionMaps)
    assert isinstance(other.attention, AttentionMaps), other.attention
    assert other.attention.grid == one.attention.grid
    np.testing.assert_allclose(other.attention.prompt_last, one.attention.prompt_last, atol=1e-3)
    if isinstance(one.attention.answer_mean, Missing):
        assert other.attention.answer_mean == one.attention.answer_mean
    else:
        np.testing.assert_allclose(
            other.attention.answer_mean, one.attention.answer_mean, atol=1e-3
        )


@pytest.fixture(scope="module")
def expected() -> list[Generation]:
    engine = TransformersEngine(embedded("models", "llava"), device="cpu")

    async def read() -> list[Generation]:
        await engine.start()
        answers = await asyncio.gather(*(engine.generate(query, READ_ALL) for query in QUERIES))
        await engine.close()
        return list(answers)

    return asyncio.run(read())


@pytest.fixture(scope="module")
def engine(llava_on_vllm: Any) -> Any:
    return llava_on_vllm


def status(engine: Any) -> dict[str, Any]:
    async def ask_worker() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await engine.run(engine.engine._call("vlm_gate_status"))
        return found

    return asyncio.run(ask_worker())[0]


def test_the_start_up_check_recomputed_attention(engine: Any) -> None:
    assert engine.engine.attention_missing is None
    assert set(engine.engine.attention_deviation) == {str(k) for k in LAYERS[1:]}
    assert max(engine.engine.attention_deviation.values()) < 1e-4


def test_alone_in_chunks_and_from_the_prefix_cache(engine: Any, expected: list[Generation]) -> None:
    """Each prompt is longer than a step may be; the second time its prefix is cached."""
    for query, one in zip(QUERIES[:5], expected, strict=False):
        for _ in range(2):
            close_enough(one, asyncio.run(engine.generate(query, READ_ALL)))

    async def cached() -> int:
        inner = engine.engine
        prompt = await engine.run(inner._render(QUERIES[0]))
        assert len(prompt["prompt_token_ids"]) > 64
        output = await engine.run(
            inner._run(prompt, inner._sampling(QUERIES[0], prompt, temperature=0.0))
        )
        return int(output.num_cached_tokens)

    assert asyncio.run(cached()) >= 64


def test_batched(engine: Any, expected: list[Generation]) -> None:
    for one, other in zip(expected, together(engine, QUERIES, READ_ALL), strict=True):
        close_enough(one, other)


def test_after_preemption(engine: Any) -> None:
    """Prompts that fill three blocks but for a token; long answers want a fourth all at once."""
    tokenizer = engine.engine._prompts.processor.tokenizer

    def filled(question: str) -> str:
        while True:
            longer = f"{question} please"
            if len(tokenizer(f"USER: {longer} ASSISTANT:")["input_ids"]) > 94 - 64 - 2:
                return question
            question = longer

    queries = [Query(query.image, filled("Describe the part."), 24) for query in QUERIES[::2]]
    reference = TransformersEngine(embedded("models", "llava"), device="cpu")

    async def read() -> list[Generation]:
        await reference.start()
        answers = await asyncio.gather(*(reference.generate(q, READ_ALL) for q in queries))
        await reference.close()
        # Rendered beforehand, so that they come at once however busy the machine is.
        for query in queries:
            await engine.run(engine.engine._render(query))
        return list(answers)

    before = status(engine)["preempted"]
    for one, other in zip(asyncio.run(read()), together(engine, queries, READ_ALL), strict=True):
        close_enough(one, other)
    assert status(engine)["preempted"] > before


def test_projected_readouts_of_several_bundles_take_turns(
    engine: Any, expected: list[Generation]
) -> None:
    numbers = np.random.default_rng(2)
    readouts = [
        Readout((layer,), (position,), {layer: numbers.normal(size=(192, columns))}, (3,))
        for layer, position, columns in
        ((6, "prompt_last", 9), (3, "answer_mean", 2), (5, "answer_last", 1))
    ]  # fmt: skip

    async def mixed() -> list[Generation]:
        return await asyncio.gather(
            *(engine.generate(query, readouts[number % 3]) for number, query in enumerate(QUERIES))
        )

    for number, (one, other) in enumerate(zip(expected, asyncio.run(mixed()), strict=True)):
        readout = readouts[number % 3]
        [(place, value)] = other.trace.readouts.items()
        state = one.trace.readouts[place]
        if isinstance(state, Missing):
            assert value == state
            continue
        assert readout.projections is not None
        wanted = state @ readout.projections[place[0]]
        np.testing.assert_allclose(value, wanted, atol=1e-3 * max(1.0, np.abs(wanted).max()))


def test_risk_and_decision_are_those_of_transformers(
    engine: Any, expected: list[Generation]
) -> None:
    bundle = read_bundle(Path(embedded("bundles", "llava")))
    answers = together(engine, QUERIES, bundle.readout)
    place = (bundle.probe.layer, bundle.probe.position)
    certificate = bundle.certificates["never"]
    for query, one, other in zip(QUERIES, expected, answers, strict=True):
        state = one.trace.readouts[place]
        if not isinstance(state, Missing):
            state = state @ bundle.probe.projection
        one = replace(one, trace=replace(one.trace, readouts={place: state}))
        first, second = (bundle.assess(measure(query, each, bundle)) for each in (one, other))
        if isinstance(first.score, Missing):
            assert second.score == first.score
        else:
            assert second.score == pytest.approx(first.score, abs=1e-3)
        assert bundle.policy.decide(second, certificate) == bundle.policy.decide(first, certificate)


def test_more_requests_than_the_engine_holds_are_refused(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.engine, "_queue_size", 2)

    async def crowd() -> list[Any]:
        asked = (engine.generate(query, NOTHING) for query in QUERIES[:5])
        return await asyncio.gather(*asked, return_exceptions=True)

    results = asyncio.run(crowd())
    assert sum(isinstance(each, Generation) for each in results) == 2
    assert sum(isinstance(each, EngineOverloaded) for each in results) == 3


def test_clients_that_go_away_take_their_requests_with_them(
    engine: Any, expected: list[Generation]
) -> None:
    """Requests are given up at any moment; the others get their own records all the same."""

    async def scenario() -> list[Any]:
        tasks = [asyncio.create_task(engine.generate(query, READ_ALL)) for query in QUERIES]
        await tasks[0]
        for task in tasks[1::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(scenario())
    kept = [at for at, each in enumerate(answers) if isinstance(each, Generation)]
    assert len(kept) >= len(QUERIES) // 2
    for at in kept:
        close_enough(expected[at], answers[at])
    assert engine.engine._open == 0
    assert engine.healthy


def test_a_prompt_beyond_the_context_is_refused(engine: Any) -> None:
    with pytest.raises(QueryRefused, match="exceed the model's 512"):
        asyncio.run(engine.generate(Query(QUERIES[0].image, "x" * 600), NOTHING))


@pytest.mark.parametrize("question", ["two? <image>", "end</s> of turn"])
def test_control_tokens_in_the_question_are_refused(engine: Any, question: str) -> None:
    with pytest.raises(QueryRefused, match="question: contains"):
        asyncio.run(engine.generate(Query(QUERIES[0].image, question), NOTHING))


def test_seeded_samples_in_chunks_are_refused_on_the_cpu(engine: Any) -> None:
    with pytest.raises(EngineError, match="enable_chunked_prefill"):
        asyncio.run(engine.sample(QUERIES[0], 2, temperature=0.7, top_p=0.9, seed=1))
    assert engine.healthy


def test_layers_that_are_not_armed_are_named(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.engine, "_layers", (2, 4))
    with pytest.raises(EngineError, match=r"readout\.layers: \[3\] were not armed"):
        asyncio.run(engine.generate(QUERIES[0], Readout((3,), POSITIONS)))


def test_what_only_the_comparison_reads_is_missing(engine: Any) -> None:
    readout = Readout((2,), POSITIONS, None, (3,), heads=True, question=True, lens=True)
    trace = asyncio.run(engine.generate(QUERIES[0], readout)).trace
    assert trace.heads == trace.question == trace.lens == Missing("not_supported")
    assert isinstance(trace.attention, AttentionMaps)
