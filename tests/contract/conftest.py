"""A tiny random LLaVA, so that the contract is tested without the trained model; engines on vLLM.

vLLM's tests need its own environment (``make test-vllm``) and are not there in any other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from probes.types import (
    AnswerScore,
    FloatArray,
    Generation,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm.options import VllmOptions
from testbed.families import FAMILIES
from testbed.family import prompts_of

Result = TypeVar("Result")
collect_ignore_glob = [] if find_spec("vllm") else ["test_vllm_*.py"]

TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte: every string has tokens, and no corpus is needed."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<s>", "</s>", "<image>"]
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )


def save_tiny_llava(
    folder: Path, *, layers: int = 4, hidden: int = 64, wide: int = 1, vip: bool = False
) -> None:
    """Save a random LLaVA: 64 image tokens (128 pixels, patches of 16), grouped-query attention.

    ``vip``: a VipLlava, which is in no table of families.
    """
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=64 * wide,
        intermediate_size=128 * wide,
        num_hidden_layers=2 * wide,
        num_attention_heads=4,
        image_size=128,
        patch_size=16,
        projection_dim=64,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model: LlavaForConditionalGeneration | VipLlavaForConditionalGeneration
    if vip:
        model = VipLlavaForConditionalGeneration(
            VipLlavaConfig(
                vision_config=vision,
                text_config=text,
                image_token_index=3,
                vision_feature_layers=[-1, -2],
            )
        )
    else:
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=vision,
                text_config=text,
                image_token_id=3,
                vision_feature_layer=-1,
                vision_feature_select_strategy="default",
            )
        )
    # A checkpoint that asks for sampling: the engine has to ignore it.
    model.generation_config.do_sample = True
    model.generation_config.temperature = 5.0
    model.generation_config.eos_token_id = [2]
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 128}, crop_size={"height": 128, "width": 128}
        ),
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random LLaVA: 4 decoder layers, hidden size 64."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llava"
    save_tiny_llava(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vip_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random VipLlava: a family that the engine has no entry for."""
    folder = tmp_path_factory.mktemp("models") / "tiny-vip-llava"
    save_tiny_llava(folder, vip=True)
    return folder


class OnOwnLoop:
    """An engine on an event loop of its own, for tests that run each call on a new one."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def identity(self) -> ModelIdentity:
        return self.engine.identity

    @property
    def healthy(self) -> bool:
        return self.engine.healthy

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run on the engine's loop; cancelling here cancels there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def start(self) -> None:
        await self.run(self.engine.start())

    async def generate(self, query: Query, readout: Readout) -> Generation:
        return await self.run(self.engine.generate(query, readout))

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        return await self.run(
            self.engine.sample(query, count, temperature=temperature, top_p=top_p, seed=seed)
        )

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        return await self.run(self.engine.score(query, token_ids))

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        return self.engine.patch_boxes(image_size, grid)

    async def close(self) -> None:
        await self.run(self.engine.close())


def on_vllm(folder: Path, *, eager: bool, **arguments: Any) -> OnOwnLoop:
    """An engine on the CPU, in float32, not started yet, that can read everything.

    Args:
        arguments: more of vLLM's.
    """
    few = {"block_size": 32, **arguments}
    return OnOwnLoop(
        VllmEngine(
            str(folder),
            dtype="float32",
            layers=tuple(range(7)),
            options=VllmOptions(max_num_seqs=16, enforce_eager=eager, arguments=few),
            queue_size=64,
        )
    )


@pytest.fixture(scope="session")
def start_vllm() -> Callable[..., OnOwnLoop]:
    """See :func:`on_vllm`."""
    return on_vllm


@pytest.fixture(scope="session")
def random_model() -> Callable[[str, Path], Path]:
    """See :func:`save_random`."""
    return save_random


def save_random(name: str, folder: Path) -> Path:
    """Save a family's model with random weights, larger than fresh ones so that states differ."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    corpus = [("Is there a dent? What is it?", "a red washer, a blue label")] * 50
    tokenizer = family.build_tokenizer(prompts_of(family, corpus))
    if name == "paligemma":
        tokenizer.add_tokens(["\n"])  # a token of its own in the published tokenizer
    model = family.build_model(tokenizer).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * (3.0 if parameter.ndim > 1 else 1.0)).bfloat16())
    family.save(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def qwen2vl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen2-VL."""
    return save_random("qwen2vl", tmp_path_factory.mktemp("qwen2vl") / "qwen2vl")


@pytest.fixture(scope="session")
def qwen2vl_on_vllm(qwen2vl_folder: Path) -> Iterator[OnOwnLoop]:
    """A random Qwen2-VL, neither compiled nor in chunks, with a small cache."""
    engine = on_vllm(qwen2vl_folder, eager=True, num_gpu_blocks_override=20)
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def llava_on_vllm() -> Iterator[OnOwnLoop]:
    """The embedded LLaVA: compiled, prompts in chunks, a cache too small for many requests."""
    from service.settings import embedded

    engine = on_vllm(
        Path(embedded("models", "llava")),
        eager=False,
        num_gpu_blocks_override=20,
        enable_chunked_prefill=True,
        max_num_batched_tokens=64,
    )
    asyncio.run(engine.start())
    yield engine
    asyncio.run(engine.close())
