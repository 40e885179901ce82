"""The transformers engine on each family's trained model, against the library's eager forward."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from probes.types import NOTHING, POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.base import QueryRefused
from service.engines.decoding import NucleusSampler, uniforms
from service.engines.transformers.engine import TransformersEngine
from testbed.drawing import render
from testbed.questions import ask
from testbed.scenes import make_scene

MODELS = Path(__file__).parents[2] / "testbed" / "models"
SIZES = ((224, 224), (90, 200), (300, 140), (128, 96), (60, 75), (250, 251), (224, 112), (57, 57))
"""Heights and widths; all but two are not square."""
READ = Readout((0, 3, 6), POSITIONS, attention_layers=(1, 4, 6))
TOGETHER = 64


def queries(count: int) -> list[Query]:
    """Questions of different lengths about scenes cut to different shapes."""
    made: list[Query] = []
    for seed in range(10**6, 10**6 + count):
        scene = make_scene(seed, "line")
        (question,) = ask(scene, np.random.default_rng(seed), n=1)
        size = SIZES[seed % len(SIZES)]
        picture = Image.fromarray(render(scene)).resize(size[::-1])
        made.append(Query(np.asarray(picture), question.text, 6 + seed % 7))
    return made


QUERIES = queries(TOGETHER)


class Judge:
    """The eager model; prompts made as the published model's users make them."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.kind: str = self.model.config.model_type
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if self.kind == "qwen2_vl":  # its processor wants torchvision, for video
            self.processor: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
        else:
            self.processor = AutoProcessor.from_pretrained(folder, backend="pil")

    def inputs(self, query: Query, answer: Sequence[int] = ()) -> dict[str, torch.Tensor]:
        """Prompt and answer as one sequence."""
        image = Image.fromarray(query.image)
        turn = [{"type": "image"}, {"type": "text", "text": query.question}]
        messages = [{"role": "user", "content": turn}]
        if self.kind == "qwen2_vl":
            made = dict(self.processor([image], return_tensors="np"))
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            pad = "<|image_pad|>"
            text = text.replace(pad, pad * int(made["image_grid_thw"].prod() // 4))
            made.update(self.tokenizer([text], return_tensors="np"))
            of_image = made["input_ids"] == self.tokenizer.convert_tokens_to_ids(pad)
            made["mm_token_type_ids"] = of_image.astype(np.int64)
        elif self.kind == "paligemma":
            text = f"<image>answer en {query.question}"
            made = dict(self.processor(images=[image], text=[text], return_tensors="np"))
            made.pop("labels", None)
        else:
            text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
            made = dict(self.processor(images=[image], text=[text], return_tensors="np"))
        tensors = {name: torch.from_numpy(value) for name, value in made.items()}
        return self._followed(tensors, torch.tensor([list(answer)], dtype=torch.long))

    def _followed(
        self, tensors: dict[str, torch.Tensor], more: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        prompt = tensors["input_ids"].shape
        fills = {"input_ids": more, "mm_token_type_ids": torch.zeros_like(more)}
        for name, value in tensors.items():
            if value.shape == prompt:
                # 1 in token_type_ids: the answer, which PaliGemma reads causally.
                tensors[name] = torch.cat([value, fills.get(name, torch.ones_like(more))], 1)
        return tensors

    def read(self, query: Query, answer: Sequence[int] = ()) -> Any:
        """The model's whole output; ``before_norm`` is the last layer's own."""
        kept: list[torch.Tensor] = []
        norm = self.model.get_decoder().norm
        hook = norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
        with torch.inference_mode():
            out = self.model(
                **self.inputs(query, answer),
                output_hidden_states=True,
                output_attentions=True,
                use_cache=False,
            )
        hook.remove()
        out.before_norm = kept[0]
        return out


def started(folder: Path) -> TransformersEngine:
    # A long wait, so that requests made together share a batch.
    engine = TransformersEngine(
        str(folder), device="cpu", max_batch_size=TOGETHER, batch_wait_seconds=60.0
    )
    asyncio.run(engine.start())
    return engine


@pytest.fixture(scope="module", params=["llava", "paligemma", "qwen2vl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(family: str) -> Iterator[TransformersEngine]:
    engine = started(MODELS / family)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def judge(family: str) -> Judge:
    return Judge(MODELS / family)


@pytest.fixture(scope="module")
def together(engine: TransformersEngine) -> list[Generation]:
    return asyncio.run(gather(engine, QUERIES))


async def gather(engine: TransformersEngine, some: Sequence[Query]) -> list[Generation]:
    return await asyncio.gather(*(engine.generate(query, READ) for query in some))


def check_readings(judge: Judge, query: Query, answer: Generation) -> None:
    """Every hidden state to 1e-4 of its largest entry, attention to 1e-5, of the eager model's."""
    out = judge.read(query, answer.token_ids)
    prompt = judge.inputs(query)["input_ids"]
    first = prompt.shape[1]
    states = len(answer.token_ids) - (answer.finish_reason == "length")
    layers = [*out.hidden_states[:-1], out.before_norm]
    for (layer, position), value in answer.trace.readouts.items():
        rows = layers[layer][0]
        if position != "prompt_last" and states == 0:
            assert value == Missing("empty_answer")
            continue
        expected = {
            "prompt_last": rows[first - 1],
            "answer_mean": rows[first : first + states].mean(0),
            "answer_last": rows[first + states - 1],
        }[position]
        scale = float(expected.abs().max())
        np.testing.assert_allclose(value, expected, atol=1e-4 * max(scale, 1.0), rtol=0)
    maps = answer.trace.attention
    assert isinstance(maps, AttentionMaps)
    image = (prompt[0] == judge.model.config.image_token_id).nonzero().squeeze(-1)
    assert len(image) == maps.grid[0] * maps.grid[1]
    for at, layer in enumerate(maps.layers):
        rows = out.attentions[layer - 1][0].mean(0)[:, image]
        np.testing.assert_allclose(maps.prompt_last[at], rows[first - 1], atol=1e-5)
        if states:
            assert not isinstance(maps.answer_mean, Missing)
            mean = rows[first : first + states].mean(0)
            np.testing.assert_allclose(maps.answer_mean[at], mean, atol=1e-5)


def test_readings_from_a_mixed_batch_are_the_eager_models(
    judge: Judge, together: list[Generation]
) -> None:
    assert len({answer.generate_seconds for answer in together}) == 1, "not one batch"
    for query, answer in list(zip(QUERIES, together, strict=True))[:12]:
        check_readings(judge, query, answer)


def test_the_model_has_learnt_to_answer(together: list[Generation]) -> None:
    """Else the other tests would compare noise: answers end by themselves, and differ."""
    assert sum(answer.finish_reason == "stop" for answer in together) > TOGETHER / 2
    assert len({answer.answer for answer in together}) > 5
    assert len({len(answer.token_ids) for answer in together}) > 1


def test_64_questions_alone_and_together_give_the_same(
    engine: TransformersEngine, together: list[Generation]
) -> None:
    for query, expected in zip(QUERIES, together, strict=True):
        (alone,) = asyncio.run(gather(engine, [query]))
        assert alone.answer == expected.answer
        assert alone.token_ids == expected.token_ids
        np.testing.assert_allclose(alone.trace.logprobs, expected.trace.logprobs, atol=1e-4)
        for place, value in expected.trace.readouts.items():
            found = alone.trace.readouts[place]
            if isinstance(value, Missing):
                assert found == value
                continue
            scale = max(1.0, float(np.abs(value).max()))
            np.testing.assert_allclose(found, value, atol=1e-4 * scale, rtol=0)
        one, other = alone.trace.attention, expected.trace.attention
        assert isinstance(one, AttentionMaps)
        assert isinstance(other, AttentionMaps)
        np.testing.assert_allclose(one.prompt_last, other.prompt_last, atol=1e-5)


def test_grid_and_boxes(
    engine: TransformersEngine, family: str, together: list[Generation]
) -> None:
    for query, answer in zip(QUERIES, together, strict=True):
        maps = answer.trace.attention
        assert isinstance(maps, AttentionMaps)
        height, width = query.image.shape[:2]
        by_hand = {  # sides by 28, rounded; 252 x 252 were too many pixels, so it is rounded down
            (224, 224): (8, 8), (90, 200): (3, 7), (300, 140): (11, 5), (128, 96): (5, 3),
            (60, 75): (2, 3), (250, 251): (8, 8), (224, 112): (8, 4), (57, 57): (2, 2),
        }  # fmt: skip
        assert maps.grid == (by_hand[height, width] if family == "qwen2vl" else (8, 8))
        boxes = engine.patch_boxes((height, width), maps.grid)
        assert not isinstance(boxes, Missing)
        left, top, right, bottom = boxes[0][0], boxes[0][1], boxes[-1][2], boxes[-1][3]
        if family == "llava":  # the middle square
            side = min(height, width)
            assert right - left == pytest.approx(side, rel=0.02)
            assert bottom - top == pytest.approx(side, rel=0.02)
        else:
            assert (left, top, right, bottom) == (0, 0, width, height)


def test_samples_are_those_without_a_cache(engine: TransformersEngine, judge: Judge) -> None:
    """Each token drawn by the same numbers from a whole forward of everything before it."""
    some, count, seed = QUERIES[1:5], 4, 11

    async def draw() -> list[tuple[str, ...]]:
        return await asyncio.gather(
            *(engine.sample(q, count, temperature=2.5, top_p=0.8, seed=seed) for q in some)
        )

    drawn = asyncio.run(draw())
    ends = engine._ready()[0]._ends
    for query, texts in zip(some, drawn, strict=True):
        numbers = torch.from_numpy(uniforms(seed, count, query.max_tokens).astype(np.float32))
        for row, text in enumerate(texts):
            setting = torch.tensor([[2.5]]), torch.tensor([[0.8]])
            sampler = NucleusSampler(numbers[row : row + 1], *setting)
            answer: list[int] = []
            while len(answer) < query.max_tokens:
                token = int(sampler.draw(judge.read(query, answer).logits[:, -1])[0])
                if token in ends:
                    break
                answer.append(token)
            assert judge.tokenizer.decode(answer, skip_special_tokens=True).strip() == text
    assert len({text for texts in drawn for text in texts}) > 5, "hot enough to go on and differ"


def test_scores_are_the_forwards_own(
    engine: TransformersEngine, judge: Judge, together: list[Generation]
) -> None:
    """Of other questions' answers, in one batch."""
    others = [answer.token_ids for answer in together if answer.finish_reason == "stop"][:6]

    async def score() -> list[Any]:
        return await asyncio.gather(
            *(engine.score(query, ids) for query, ids in zip(QUERIES, others, strict=False))
        )

    for query, ids, found in zip(QUERIES, others, asyncio.run(score()), strict=False):
        first = judge.inputs(query)["input_ids"].shape[1]
        logprobs = judge.read(query, ids).logits[0, first - 1 :].log_softmax(-1)
        expected = sum(float(logprobs[at, token]) for at, token in enumerate(ids))
        assert found.logprob == pytest.approx(expected, abs=1e-3)


def test_several_images_are_refused(engine: TransformersEngine, family: str) -> None:
    token = {"qwen2vl": "<|image_pad|>"}.get(family, "<image>")
    with pytest.raises(QueryRefused, match="one image per question is supported, remove it"):
        asyncio.run(engine.generate(Query(QUERIES[0].image, f"and {token}?"), NOTHING))


def test_identity_names_the_family(engine: TransformersEngine, family: str) -> None:
    identity = engine.identity
    assert (identity.family, identity.name) == (family, family)
    assert (identity.layers, identity.hidden_size) == (6, 192)


def test_any_other_checkpoint_is_served(tiny_vip_llava: Path) -> None:
    engine = started(tiny_vip_llava)
    judge = Judge(tiny_vip_llava)
    read = Readout((0, 2, 4), POSITIONS, attention_layers=(1, 4))

    async def go() -> Generation:
        return await engine.generate(QUERIES[1], read)

    answer = asyncio.run(go())
    assert engine.identity.family == "generic"
    check_readings(judge, QUERIES[1], answer)
    assert engine.patch_boxes((90, 200), (8, 8)) == Missing("unknown_image_geometry")
    asyncio.run(engine.close())
