"""The published checkpoints' shapes: configuration, processor, a tokenizer of their size and ids.

Nothing is downloaded: numbers are those of the checkpoints' config.json; words of the tokenizer are
those of the questions at hand, then made-up ones up to the published size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from benchmarks.sizes import LLAVA_7B, PALIGEMMA_3B, QWEN2_VL_7B
from service.engines.processors import Qwen2VLParts
from testbed import llava, qwen2vl
from testbed.families import FAMILIES

Settings = Mapping[str, Any]
FULL: Settings = {}
TOY: Settings = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
"""Replaces the decoder's numbers for a try on a CPU; heads, image tokens, vocabulary stay."""
TOY_TOWER: Settings = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """One published checkpoint's.

    Args:
        name: of the checkpoint.
        family: in the engine's table and the testbed's.
        base: tokens of the vocabulary before any that the library adds.
        special: published ids of the tokens with a role.
        config: the model's, of toy width and depth or in full.
        processor: from the tokenizer.
    """

    name: str
    family: str
    base: int
    special: Mapping[str, int]
    config: Callable[[bool], Any]
    processor: Callable[[PreTrainedTokenizerFast], Any]

    def tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """Words of the texts are one token each, anything else is spelt in bytes."""
        split = pre_tokenizers.ByteLevel(add_prefix_space=False)
        words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
        known = [*sorted(split.alphabet()), *sorted(words - set(split.alphabet()))]
        taken = {number: token for token, number in self.special.items() if number < self.base}
        filler = (f"Ġw{number}" for number in range(self.base))
        rest = iter([*known, *filler])
        vocabulary = {taken.get(n) or next(rest): n for n in range(self.base)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
        tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
        dressed = FAMILIES[self.family].dress(tokenizer)
        dressed.model_max_length = 4096
        for token, number in self.special.items():
            if dressed.convert_tokens_to_ids(token) != number:
                raise ValueError(f"{self.name}: {token} is not token {number}")
        return dressed


def _llava_config(toy: bool) -> LlavaConfig:
    text = {
        **LLAVA_7B.text, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001,
    }  # fmt: skip
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**{**LLAVA_7B.vision, **(TOY_TOWER if toy else FULL)}),
        text_config=LlamaConfig(**{**text, **(TOY if toy else FULL)}),
        image_token_index=32000,
        image_seq_length=576,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def _llava_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=llava.CHAT_TEMPLATE,
    )


def _paligemma_config(toy: bool) -> PaliGemmaConfig:
    text = {
        **PALIGEMMA_3B.text, "max_position_embeddings": 8192,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip
    tower = {**PALIGEMMA_3B.vision, "image_size": 224, "vision_use_head": False}
    width = TOY["hidden_size"] if toy else text["hidden_size"]
    return PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**{**tower, **(TOY_TOWER if toy else FULL)}),
        text_config=GemmaConfig(**{**text, **(TOY if toy else FULL)}),
        image_token_index=257152,
        vocab_size=257216,
        projection_dim=width,
        hidden_size=width,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )


def _paligemma_processor(tokenizer: PreTrainedTokenizerFast) -> PaliGemmaProcessor:
    images = SiglipImageProcessorPil(size={"height": 224, "width": 224})
    images.image_seq_length = 256
    return PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)


QWEN2_VL_TOKENS = {
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645,
    "<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655, "<|video_pad|>": 151656,
}  # fmt: skip


def _qwen2vl_config(toy: bool) -> Qwen2VLConfig:
    text = {
        **QWEN2_VL_7B.text, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "bos_token_id": 151643, "eos_token_id": 151645, "pad_token_id": 151643,
    }  # fmt: skip
    tower = {
        **QWEN2_VL_7B.vision, "in_channels": 3, "temporal_patch_size": 2,
        "hidden_act": "quick_gelu",
    }  # fmt: skip
    if toy:
        small = {"num_attention_heads": 4, "num_key_value_heads": 2}
        rope = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
        text = {**text, **TOY, **small, **rope}
        tower = {**tower, "depth": 2, "embed_dim": 64, "num_heads": 4, "hidden_size": 64}
    return Qwen2VLConfig(
        **text,
        vision_config=tower,
        image_token_id=QWEN2_VL_TOKENS["<|image_pad|>"],
        video_token_id=QWEN2_VL_TOKENS["<|video_pad|>"],
        vision_start_token_id=QWEN2_VL_TOKENS["<|vision_start|>"],
        vision_end_token_id=QWEN2_VL_TOKENS["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def _qwen2vl_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLParts:
    # As size, not as min_pixels and max_pixels: the library would write those into its class.
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12845056})
    return Qwen2VLParts(images, tokenizer, qwen2vl.CHAT_TEMPLATE)


SHAPES = (
    Shape(
        "llava-1.5-7b-hf", "llava", 32002,
        {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000, "<pad>": 32001},
        _llava_config, _llava_processor,
    ),
    Shape(
        "paligemma-3b-mix-224", "paligemma", 256000,
        {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<image>": 257152},
        _paligemma_config, _paligemma_processor,
    ),
    Shape(
        "Qwen2-VL-7B-Instruct", "qwen2vl", 151657, QWEN2_VL_TOKENS,
        _qwen2vl_config, _qwen2vl_processor,
    ),
)  # fmt: skip
