"""The transformers engine against transformers' own full outputs."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from probes.types import NOTHING, POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.base import EngineError, QueryRefused
from service.engines.transformers.engine import TransformersEngine
from service.engines.transformers.taps import _ROWS

NUMBERS = np.random.default_rng(3)
QUERIES = [
    Query(
        NUMBERS.integers(0, 256, (64 + 30 * i, 150, 3), np.uint8), "what is it? " * (i + 1), 2 + i
    )
    for i in range(5)
]
LAYERS = (0, 1, 2, 3, 4)
READ_ALL = Readout(LAYERS, POSITIONS, attention_layers=(1, 2, 3, 4))


@dataclass
class Reference:
    """The whole sequence, prompt and answer, through the eager model with every output kept."""

    hidden: list[torch.Tensor]
    normed: torch.Tensor
    attention: list[torch.Tensor]
    prompt: int
    image: torch.Tensor


class Judge:
    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder, backend="pil")
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager"
        ).eval()

    def inputs(self, query: Query) -> Any:
        turn = [{"type": "image"}, {"type": "text", "text": query.question}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": turn}], add_generation_prompt=True
        )
        image = Image.fromarray(query.image)
        return self.processor(images=[image], text=[prompt], return_tensors="pt")

    def read(self, query: Query, answer: Sequence[int]) -> Reference:
        inputs = self.inputs(query)
        ids = torch.cat([inputs["input_ids"], torch.tensor([list(answer)]).long()], 1)
        decoder = self.model.get_decoder()
        kept: list[torch.Tensor] = []
        hook = decoder.norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
        with torch.inference_mode():
            out = self.model(
                input_ids=ids,
                pixel_values=inputs["pixel_values"],
                output_hidden_states=True,
                output_attentions=True,
            )
        hook.remove()
        return Reference(
            hidden=[*(h[0] for h in out.hidden_states[:-1]), kept[0][0]],
            normed=out.hidden_states[-1][0],
            attention=[a[0].mean(0) for a in out.attentions],
            prompt=inputs["input_ids"].shape[1],
            image=(ids[0] == 3).nonzero().squeeze(-1),
        )


@pytest.fixture(scope="module")
def judge(tiny_llava: Path) -> Judge:
    return Judge(tiny_llava)


@pytest.fixture(scope="module")
def engine(tiny_llava: Path) -> Iterator[TransformersEngine]:
    # A long wait, so that requests made together always share a batch.
    engine = TransformersEngine(str(tiny_llava), device="cpu", batch_wait_seconds=30.0)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


def ask_together(
    engine: TransformersEngine, queries: Sequence[Query], readouts: Sequence[Readout]
) -> list[Generation]:
    async def all_of_them() -> list[Generation]:
        pairs = zip(queries, readouts, strict=True)
        return await asyncio.gather(*(engine.generate(*pair) for pair in pairs))

    answers = asyncio.run(all_of_them())
    assert len({answer.generate_seconds for answer in answers}) == 1, "not one batch"
    return answers


def check_against(judge: Judge, query: Query, answer: Generation) -> None:
    """Hidden states to 1e-4 and attention to 1e-5 of the eager model's."""
    reference = judge.read(query, answer.token_ids)
    states = len(answer.token_ids) - (answer.finish_reason == "length")
    assert states > 0
    first, last = reference.prompt, reference.prompt + states
    trace = answer.trace
    for layer in LAYERS:
        hidden = reference.hidden[layer]
        for position, expected in (
            ("prompt_last", hidden[first - 1]),
            ("answer_mean", hidden[first:last].mean(0)),
            ("answer_last", hidden[last - 1]),
        ):
            np.testing.assert_allclose(trace.readouts[layer, position], expected, atol=1e-4)
    # transformers' own last hidden state is the normed one.
    normed = judge.model.get_decoder().norm(torch.tensor(trace.readouts[4, "answer_last"]))
    np.testing.assert_allclose(normed.detach(), reference.normed[last - 1], atol=1e-4)
    maps = trace.attention
    assert isinstance(maps, AttentionMaps)
    assert maps.grid == (8, 8)
    for at, layer in enumerate(maps.layers):
        rows = reference.attention[layer - 1][:, reference.image]
        np.testing.assert_allclose(maps.prompt_last[at], rows[first - 1], atol=1e-5)
        assert not isinstance(maps.answer_mean, Missing)
        np.testing.assert_allclose(maps.answer_mean[at], rows[first:last].mean(0), atol=1e-5)


def test_alone_matches_the_full_outputs(engine: TransformersEngine, judge: Judge) -> None:
    answer = ask_together(engine, QUERIES[3:4], [READ_ALL])[0]
    check_against(judge, QUERIES[3], answer)


def test_mixed_batch_matches_the_full_outputs(engine: TransformersEngine, judge: Judge) -> None:
    for query, answer in zip(QUERIES, ask_together(engine, QUERIES, [READ_ALL] * 5), strict=True):
        check_against(judge, query, answer)


def test_different_readouts_share_a_batch(engine: TransformersEngine, judge: Judge) -> None:
    matrix = NUMBERS.normal(size=(64, 2))
    projected = Readout((2,), ("answer_last",), {2: matrix}, (3,))
    answers = ask_together(engine, QUERIES[2:5], [READ_ALL, projected, NOTHING])
    check_against(judge, QUERIES[2], answers[0])
    reference = judge.read(QUERIES[3], answers[1].token_ids)
    row = reference.prompt + len(answers[1].token_ids) - 2
    assert set(answers[1].trace.readouts) == {(2, "answer_last")}
    np.testing.assert_allclose(
        answers[1].trace.readouts[2, "answer_last"],
        reference.hidden[2][row].numpy() @ matrix,
        atol=1e-3,
    )
    assert isinstance(answers[1].trace.attention, AttentionMaps)
    assert answers[1].trace.attention.layers == (3,)
    assert answers[2].trace.readouts == {}


def test_token_scores_match_the_logits(engine: TransformersEngine, judge: Judge) -> None:
    answer = ask_together(engine, QUERIES[4:], [NOTHING])[0]
    with torch.inference_mode():
        out = judge.model.generate(
            **judge.inputs(QUERIES[4]),
            max_new_tokens=6,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logits = torch.cat(out.logits)
    assert answer.token_ids == tuple(logits.argmax(-1).tolist()), "greedy, whatever the checkpoint"
    expected = logits.log_softmax(-1)
    np.testing.assert_allclose(answer.trace.logprobs, expected.amax(-1), atol=1e-4)
    entropy = -(expected[0].exp() * expected[0]).sum()
    assert answer.trace.first_token_entropy == pytest.approx(float(entropy), abs=1e-4)
    best = logits[0].topk(2).values
    assert answer.trace.first_token_margin == pytest.approx(float(best[0] - best[1]), abs=1e-4)


def test_one_token_cut_short_has_no_answer_state(engine: TransformersEngine) -> None:
    query = Query(QUERIES[0].image, "what?", 1)
    answer = ask_together(engine, [query], [READ_ALL])[0]
    assert answer.finish_reason == "length"
    assert answer.trace.readouts[2, "answer_mean"] == Missing("empty_answer")
    assert answer.trace.readouts[2, "answer_last"] == Missing("empty_answer")
    assert not isinstance(answer.trace.readouts[2, "prompt_last"], Missing)
    assert isinstance(answer.trace.attention, AttentionMaps)
    assert answer.trace.attention.answer_mean == Missing("empty_answer")


def with_end_tokens(folder: Path, to: Path, ends: Sequence[int]) -> Path:
    shutil.copytree(folder, to)
    settings = to / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": ends}))
    return to


def spreading_ends(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """Tokens that end the first row at once and the others at many different steps."""

    def lengths(ends: Sequence[int]) -> set[int]:
        return {next((at for at, t in enumerate(row) if t in ends), 8) for row in rows}

    seen = sorted({token for row in rows for token in row})
    return max(
        ([rows[0][0], *pair] for pair in combinations(seen, 2)), key=lambda e: len(lengths(e))
    )


def test_rows_that_end_at_different_steps(
    engine: TransformersEngine, judge: Judge, tiny_llava: Path, tmp_path: Path
) -> None:
    queries = [Query(query.image, query.question, 8) for query in QUERIES]
    free = ask_together(engine, queries, [NOTHING] * 5)
    ends = spreading_ends([whole.token_ids for whole in free])
    folder = with_end_tokens(tiny_llava, tmp_path / "ends", ends)

    async def scenario() -> tuple[list[Generation], tuple[str, ...]]:
        ending = TransformersEngine(str(folder), device="cpu", batch_wait_seconds=30.0)
        await ending.start()
        try:
            answers = await asyncio.gather(*(ending.generate(q, READ_ALL) for q in queries))
            empty = await ending.sample(queries[0], 3, temperature=0.01, top_p=0.5, seed=1)
            return answers, empty
        finally:
            await ending.close()

    answers, empty = asyncio.run(scenario())
    lengths = set()
    for query, whole, answer in zip(queries, free, answers, strict=True):
        stops = [at for at, token in enumerate(whole.token_ids) if token in ends]
        assert answer.token_ids == whole.token_ids[: stops[0] if stops else 8]
        assert answer.finish_reason == ("stop" if stops else "length")
        assert answer.trace.logprobs.shape == (len(answer.token_ids),)
        if answer.token_ids:
            check_against(judge, query, answer)
        lengths.add(len(answer.token_ids))
    assert len(lengths) >= 3
    assert answers[0].answer == ""
    assert answers[0].trace.readouts[1, "answer_mean"] == Missing("empty_answer")
    assert empty == ("", "", "")


def test_samples_follow_the_model(engine: TransformersEngine, judge: Judge) -> None:
    """First tokens of many samples against the model's own probabilities."""
    query = Query(QUERIES[0].image, "what?", 1)
    with torch.inference_mode():
        logits = judge.model(**judge.inputs(query)).logits[0, -1]
    probabilities = (logits / 2.0).softmax(-1)
    texts = [judge.processor.tokenizer.decode([i]).strip() for i in range(len(logits))]
    drawn = asyncio.run(engine.sample(query, 400, temperature=2.0, top_p=1.0, seed=5))
    best = texts[int(probabilities.argmax())]
    expected = sum(float(p) for p, text in zip(probabilities, texts, strict=True) if text == best)
    error = (expected * (1 - expected) / 400) ** 0.5
    assert abs(drawn.count(best) / 400 - expected) < 4 * error


def test_cold_samples_equal_the_greedy_answer(engine: TransformersEngine) -> None:
    query = QUERIES[4]
    greedy = ask_together(engine, [query], [NOTHING])[0]
    assert asyncio.run(engine.sample(query, 3, temperature=1e-3, top_p=0.9, seed=0)) == (
        (greedy.answer,) * 3
    )


def test_nothing_is_left_on_the_model(engine: TransformersEngine) -> None:
    ask_together(engine, QUERIES[:2], [READ_ALL] * 2)
    loaded, _ = engine._ready()
    for layer in loaded.taps._layers:
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
        assert _ROWS not in layer.self_attn.__dict__


@pytest.mark.parametrize("question", ["two? <image>", "end</s> of turn"])
def test_control_tokens_in_the_question_are_refused(
    engine: TransformersEngine, question: str
) -> None:
    with pytest.raises(QueryRefused, match="question: contains"):
        asyncio.run(engine.generate(Query(QUERIES[0].image, question), NOTHING))


def test_a_question_beyond_the_context_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(QueryRefused, match=r"exceed the model's 512"):
        asyncio.run(engine.generate(Query(QUERIES[0].image, "x" * 600), NOTHING))


def test_identity_names_what_changed(
    engine: TransformersEngine, tiny_llava: Path, tmp_path: Path
) -> None:
    copy = tmp_path / tiny_llava.name
    shutil.copytree(tiny_llava, copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    (copy / "chat_template.jinja").write_text("<image>\n{{ messages[0]['content'][1]['text'] }}")
    other = TransformersEngine(str(copy), device="cpu", dtype="bfloat16")

    async def load() -> None:
        await other.start()
        await other.generate(QUERIES[1], READ_ALL)

    asyncio.run(load())
    ours, theirs = engine.identity, other.identity
    asyncio.run(other.close())
    assert ours.name == theirs.name == "tiny-llava"
    assert ours.processor_hash == theirs.processor_hash
    assert ours.revision != theirs.revision
    assert ours.chat_template_hash != theirs.chat_template_hash
    assert (ours.dtype, theirs.dtype) == ("float32", "bfloat16")
    assert (ours.layers, ours.hidden_size, ours.family) == (4, 64, "llava")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be loaded"):
        asyncio.run(TransformersEngine(str(tmp_path), device="cpu").start())


def test_pickled_weights_are_never_loaded(tiny_llava: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pickled"
    shutil.copytree(tiny_llava, copy)
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"not to be opened")
    with pytest.raises(EngineError, match="cannot be loaded"):
        asyncio.run(TransformersEngine(str(copy), device="cpu").start())


def test_the_loop_runs_on_while_the_model_works(engine: TransformersEngine) -> None:
    async def scenario() -> int:
        turns = 0
        work = asyncio.create_task(engine.generate(Query(QUERIES[0].image, "x", 40), READ_ALL))
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(scenario()) > 20
