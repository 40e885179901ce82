"""What every engine promises, whichever it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from probes.types import (
    NOTHING,
    POSITIONS,
    AnswerScore,
    AttentionMaps,
    Generation,
    LensMargins,
    Missing,
    Query,
    QuestionMaps,
    Readout,
)
from service.engines.base import Engine, EngineError, EngineOverloaded
from service.engines.fake import FakeEngine
from service.engines.transformers.checkpoint import Checkpoint
from service.engines.transformers.engine import TransformersEngine
from service.engines.vllm.prompts import Prompts

ON_VLLM = find_spec("vllm") is not None
"""In the environment of ``make test-vllm``, where the other engines need no second test."""
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
READ_ALL = Readout(layers=(0, 2, 4), positions=POSITIONS, attention_layers=(1, 4))


def build(name: str, model: Path, capacity: int = 64) -> Engine:
    if name == "fake":
        return FakeEngine(answer_for=lambda query: query.question[::-1], capacity=capacity)
    return TransformersEngine(str(model), device="cpu", queue_size=capacity)


@pytest.fixture(scope="module", params=["vllm"] if ON_VLLM else ["fake", "transformers"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(name: str, tiny_llava: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if name == "vllm":  # one start of vLLM serves all of its tests
        yield request.getfixturevalue("qwen2vl_on_vllm")
        return
    engine = build(name, tiny_llava)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


def ask(engine: Engine, question: str, readout: Readout = NOTHING, limit: int = 5) -> Generation:
    return asyncio.run(engine.generate(Query(IMAGE, question, limit), readout))


def test_identity_is_complete(engine: Engine, name: str) -> None:
    identity = engine.identity
    assert identity.engine == name
    assert identity.layers >= 4
    assert identity.hidden_size > 0
    for text in (identity.name, identity.revision, identity.family, identity.dtype):
        assert text
        assert "/" not in text
    assert identity.processor_hash
    assert identity.chat_template_hash


def test_answer_has_its_token_scores(engine: Engine) -> None:
    answer = ask(engine, "is there a scratch?")
    assert answer.trace.logprobs.shape == (len(answer.token_ids),)
    assert (answer.trace.logprobs <= 0).all()
    assert answer.trace.first_token_entropy >= 0
    assert answer.trace.first_token_margin >= 0
    assert answer.answer == answer.answer.strip()
    assert answer.generate_seconds > 0
    assert answer.queue_seconds >= 0


def test_nothing_asked_nothing_read(engine: Engine) -> None:
    trace = ask(engine, "what?").trace
    assert trace.readouts == {}
    assert trace.attention == Missing("not_requested")


def test_readout_has_every_layer_and_position(engine: Engine) -> None:
    readouts = ask(engine, "what is it?", READ_ALL).trace.readouts
    assert set(readouts) == {(k, position) for k in (0, 2, 4) for position in POSITIONS}
    for value in readouts.values():
        assert not isinstance(value, Missing)
        assert value.shape == (engine.identity.hidden_size,)
        assert np.isfinite(value).all()


def test_projection_equals_the_whole_state_times_the_matrix(engine: Engine) -> None:
    hidden = engine.identity.hidden_size
    numbers = np.random.default_rng(1)
    matrices = {2: numbers.normal(size=(hidden, 3)), 4: numbers.normal(size=(hidden, 1))}
    whole = ask(engine, "what is it?", READ_ALL).trace.readouts
    part = ask(engine, "what is it?", Readout((2, 4), POSITIONS, matrices)).trace.readouts
    for (layer, position), value in part.items():
        assert not isinstance(value, Missing)
        assert value.shape == (matrices[layer].shape[1],)
        np.testing.assert_allclose(
            value, whole[layer, position] @ matrices[layer], rtol=1e-4, atol=1e-3
        )


def test_attention_is_a_part_of_a_softmax(engine: Engine) -> None:
    maps = ask(engine, "what is it?", READ_ALL).trace.attention
    assert isinstance(maps, AttentionMaps)
    assert not isinstance(maps.answer_mean, Missing)
    assert maps.layers == (1, 4)
    for rows in (maps.prompt_last, maps.answer_mean):
        assert rows.shape == (2, maps.grid[0] * maps.grid[1])
        assert (rows >= 0).all()
        assert (rows.sum(-1) < 1).all()
        assert (rows.sum(-1) > 0).all()


def test_max_tokens_cuts_the_answer(engine: Engine) -> None:
    answer = ask(engine, "a long question that has a long answer", limit=3)
    assert len(answer.token_ids) == 3
    assert answer.finish_reason == "length"
    longer = ask(engine, "a long question that has a long answer", limit=6)
    assert longer.token_ids[:3] == answer.token_ids


def test_alone_and_among_others_give_the_same(engine: Engine) -> None:
    questions = [f"question number {'x' * (3 * i)}?" for i in range(6)]
    alone = [ask(engine, question, READ_ALL, 3 + i) for i, question in enumerate(questions)]

    async def together() -> list[Generation]:
        queries = (Query(IMAGE, question, 3 + i) for i, question in enumerate(questions))
        return await asyncio.gather(*(engine.generate(query, READ_ALL) for query in queries))

    for one, other in zip(alone, asyncio.run(together()), strict=True):
        assert one.answer == other.answer
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.trace.logprobs, other.trace.logprobs, atol=1e-4)
        for key, value in one.trace.readouts.items():
            np.testing.assert_allclose(value, other.trace.readouts[key], atol=1e-4)


def test_samples_are_reproducible_and_do_not_depend_on_company(engine: Engine) -> None:
    async def draw(question: str, count: int, seed: int) -> tuple[str, ...]:
        query = Query(IMAGE, question, 4)
        return await engine.sample(query, count, temperature=0.7, top_p=0.9, seed=seed)

    async def together() -> list[tuple[str, ...]]:
        return await asyncio.gather(
            draw("what is it?", 10, 7), draw("a much longer question?", 3, 8), draw("no?", 5, 9)
        )

    alone = asyncio.run(draw("what is it?", 10, 7))
    assert len(alone) == 10
    assert asyncio.run(draw("what is it?", 10, 7)) == alone
    assert asyncio.run(draw("what is it?", 5, 7)) == alone[:5]
    assert asyncio.run(together())[0] == alone
    assert asyncio.run(draw("what is it?", 10, 8)) != alone


def test_beside_the_answer_the_samples_are_the_same_of_one_prompt(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Query] = []
    if name != "fake":
        where, what = (Prompts, "prompt") if name == "vllm" else (Checkpoint, "prepare")
        prepare = getattr(where, what)

        def counted(self: object, query: Query, *more: float) -> object:
            prepared.append(query)
            return prepare(self, query, *more)

        monkeypatch.setattr(where, what, counted)

    def draw(query: Query) -> Coroutine[None, None, tuple[str, ...]]:
        return engine.sample(query, 5, temperature=0.7, top_p=0.9, seed=7)

    async def beside() -> tuple[Generation, tuple[str, ...]]:
        query = Query(IMAGE, "what is it?", 4)
        return await asyncio.gather(engine.generate(query, READ_ALL), draw(query))

    answer, samples = asyncio.run(beside())
    assert len(prepared) == (name != "fake")
    assert answer.token_ids == ask(engine, "what is it?", READ_ALL, 4).token_ids
    assert samples == asyncio.run(draw(Query(IMAGE, "what is it?", 4)))


def test_layers_that_the_model_lacks_are_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"readout\.layers"):
        ask(engine, "what?", Readout((engine.identity.layers + 1,), POSITIONS))
    with pytest.raises(EngineError, match="attention_layers"):
        ask(engine, "what?", Readout(attention_layers=(0,)))


def test_a_cancelled_request_leaves_the_engine_well(engine: Engine) -> None:
    async def scenario() -> Generation:
        query = Query(IMAGE, "what?", 3)
        tasks = [asyncio.create_task(engine.generate(query, NOTHING)) for _ in range(4)]
        await asyncio.sleep(0)
        for task in tasks[1:]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done[1:])
        assert isinstance(done[0], Generation)
        return await engine.generate(query, NOTHING)

    assert asyncio.run(scenario()).token_ids
    assert engine.healthy


@pytest.mark.skipif(ON_VLLM, reason="in test_vllm_llava.py, without a start")
def test_too_many_requests_are_refused_and_the_rest_answered(name: str, tiny_llava: Path) -> None:
    async def scenario() -> list[Generation | BaseException]:
        engine = build(name, tiny_llava, capacity=2)
        await engine.start()
        query = Query(IMAGE, "what?", 2)
        try:
            return await asyncio.gather(
                *(engine.generate(query, NOTHING) for _ in range(5)), return_exceptions=True
            )
        finally:
            await engine.close()

    results = asyncio.run(scenario())
    assert sum(isinstance(each, Generation) for each in results) == 2
    assert sum(isinstance(each, EngineOverloaded) for each in results) == 3


@pytest.mark.skipif(
    find_spec("vllm") is not None, reason="in test_vllm_qwen2vl.py, without a start"
)
def test_life_of_an_engine(name: str, tiny_llava: Path) -> None:
    async def scenario() -> None:
        engine = build(name, tiny_llava)
        query = Query(IMAGE, "what?", 2)
        assert not engine.healthy
        with pytest.raises(EngineError, match="not running"):
            await engine.generate(query, NOTHING)
        await engine.start()
        assert engine.healthy
        await engine.generate(query, NOTHING)
        await engine.close()
        await engine.close()
        assert not engine.healthy
        with pytest.raises(EngineError, match="not running"):
            await engine.sample(query, 1, temperature=1.0, top_p=1.0, seed=0)

    asyncio.run(scenario())


def test_its_own_answer_scores_as_it_was_given(engine: Engine) -> None:
    queries = [Query(IMAGE, "x" * length + "?", length) for length in (1, 4, 6)]
    answers = [asyncio.run(engine.generate(query, NOTHING)) for query in queries]

    async def together() -> list[AnswerScore]:
        pairs = zip(queries, answers, strict=True)
        return await asyncio.gather(
            *(engine.score(query, answer.token_ids) for query, answer in pairs)
        )

    for answer, score in zip(answers, asyncio.run(together()), strict=True):
        assert score.greedy
        assert score.logprob == pytest.approx(float(answer.trace.logprobs.sum()), abs=1e-4)


def test_another_answer_scores_less(engine: Engine) -> None:
    query = Query(IMAGE, "what is it?", 4)
    own = asyncio.run(engine.generate(query, NOTHING)).token_ids
    other = (own[0] + 1 if own[0] < 100 else own[0] - 1, *own[1:])
    score = asyncio.run(engine.score(query, other))
    assert not score.greedy
    assert score.logprob < asyncio.run(engine.score(query, own)).logprob
    assert not asyncio.run(engine.score(query, own[:2])).greedy
    empty = asyncio.run(engine.score(query, ()))
    assert (empty.logprob, empty.greedy) == (0.0, False)


def test_an_answer_too_long_cannot_be_scored(engine: Engine) -> None:
    with pytest.raises(ValueError, match="token_ids"):
        asyncio.run(engine.score(Query(IMAGE, "what?", 2), (40, 41, 42)))


def test_patch_boxes_tile_what_the_model_sees(engine: Engine) -> None:
    boxes = engine.patch_boxes((90, 120), (4, 4))
    assert not isinstance(boxes, Missing)
    assert boxes.shape == (16, 4)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (area > 0).all()
    assert area.sum() <= 90 * 120 + 1e-6
    assert area.sum() >= 0.7 * 90 * 120


@pytest.mark.skipif(ON_VLLM, reason="vLLM reads none of it, see test_vllm_llava.py")
def test_what_the_comparison_reads(engine: Engine) -> None:
    readout = Readout((1, 4), POSITIONS, None, (1, 4), heads=True, question=True, lens=True)
    trace = ask(engine, "Is a red gear left?", readout).trace
    assert isinstance(trace.attention, AttentionMaps)
    assert isinstance(trace.heads, AttentionMaps)
    assert isinstance(trace.question, QuestionMaps)
    assert isinstance(trace.lens, LensMargins)
    tokens = trace.heads.grid[0] * trace.heads.grid[1]
    assert trace.heads.prompt_last.shape[::2] == (2, tokens)
    np.testing.assert_allclose(
        trace.heads.prompt_last.mean(1), trace.attention.prompt_last, atol=1e-6
    )
    assert trace.question.content.shape == trace.question.boundary.shape == (2, tokens)
    assert trace.lens.layers == (1, 4)
    assert trace.lens.top.shape == (2,)
    assert (trace.lens.top >= 0).all()
