"""A small Qwen2-VL, built, saved and loaded like the 2 B and 7 B ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids

from testbed.family import IMAGE_TOKENS, SIDE, Family, renamed, write_json

PATCH = 14
MERGE = 2
IMAGE_SIZE = SIDE * MERGE * PATCH
# The template of the published checkpoints, for images and text.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PUBLISHED = (
    ("model.visual.", "visual."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
)


class Qwen2VL(Family):
    """Tower with rotary positions that merges 2 x 2 patches, Qwen2 decoder with M-RoPE.

    The image keeps its shape: as many tokens as it has squares of 28 pixels. Scenes are square and
    always give 8 x 8.
    """

    name = "qwen2vl"
    title = (
        "`Qwen2VLForConditionalGeneration` (tower with 2 x 2 patches merged, Qwen2 with M-RoPE; "
        "dynamic resolution, 224 x 224 pixels for a scene)"
    )
    image_size = IMAGE_SIZE
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    special_tokens = (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    image_token = "<|image_pad|>"
    end_token = "<|im_end|>"
    turn_tokens = 328

    def before(self) -> str:
        return (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            f"<|vision_start|>{self.image_token * IMAGE_TOKENS}<|vision_end|>"
        )

    def turn(self, question: str) -> str:
        return f"{question}<|im_end|>\n<|im_start|>assistant\n"

    def dress(self, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=list(self.special_tokens[1:]),
            model_max_length=512,
            padding_side="left",
            clean_up_tokenization_spaces=False,
            chat_template=CHAT_TEMPLATE,
        )

    def build_model(self, tokenizer: PreTrainedTokenizerFast) -> Qwen2VLForConditionalGeneration:
        return Qwen2VLForConditionalGeneration(Qwen2VLConfig(**self._settings(tokenizer)))

    def _settings(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """config.json as published: the decoder's settings lie flat."""
        special = {token: tokenizer.convert_tokens_to_ids(token) for token in self.special_tokens}
        return {
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 448,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
            "use_sliding_window": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": False,
            "bos_token_id": special["<|endoftext|>"],
            "eos_token_id": special["<|im_end|>"],
            "pad_token_id": special["<|endoftext|>"],
            "vision_start_token_id": special["<|vision_start|>"],
            "vision_end_token_id": special["<|vision_end|>"],
            "image_token_id": special["<|image_pad|>"],
            "video_token_id": special["<|video_pad|>"],
            "vision_config": {
                "depth": 4,
                "embed_dim": 160,
                "hidden_size": 192,
                "hidden_act": "quick_gelu",
                "mlp_ratio": 4,
                "num_heads": 5,
                "in_channels": 3,
                "patch_size": PATCH,
                "spatial_merge_size": MERGE,
                "temporal_patch_size": 2,
            },
        }

    def load_model(self, folder: Path) -> Qwen2VLForConditionalGeneration:
        return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    def tower(self, model: Any) -> nn.Module:
        tower: nn.Module = model.model.visual
        return tower

    def look(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The merged tokens, twice: the tower's own states lie in another order."""
        merged = see(model.model.visual, pixels)
        return merged, merged

    def positions(self, within: Tensor, head: int, first: int) -> Tensor:
        """Time, row and column, (3, rows, length): the image's tokens count as 8 steps."""
        last = first + IMAGE_TOKENS
        index = torch.arange(IMAGE_TOKENS, device=within.device)
        after = first + SIDE
        positions = (within + (after + head - last)).expand(3, -1, -1).clone()
        positions[:, :, :first] = torch.arange(first, device=within.device)
        image = torch.stack([torch.zeros_like(index), index // SIDE, index % SIDE]) + first
        positions[:, :, first:last] = image[:, None]
        positions[:, :, last:head] = after + torch.arange(head - last, device=within.device)
        return positions

    def decode(self, model: Any, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        states: Tensor = model.model.language_model(
            inputs_embeds=embeddings,
            attention_mask={"full_attention": mask[:, None]},
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return states

    def published_name(self, name: str) -> str:
        return renamed(name, _PUBLISHED)

    def save_settings(self, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        settings = self._settings(tokenizer)
        write_json(
            folder / "config.json",
            {
                "architectures": ["Qwen2VLForConditionalGeneration"],
                "model_type": "qwen2_vl",
                "torch_dtype": "bfloat16",
                **settings,
            },
        )
        write_json(
            folder / "generation_config.json",
            {
                "bos_token_id": settings["bos_token_id"],
                "eos_token_id": [settings["eos_token_id"], settings["pad_token_id"]],
                "pad_token_id": settings["pad_token_id"],
            },
        )
        write_json(folder / "preprocessor_config.json", image_settings())
        tokenizer.save_pretrained(folder)


def image_settings() -> dict[str, Any]:
    """preprocessor_config.json as published, for scenes of 224 x 224 pixels at most.

    ``max_pixels`` is a little more than that, for the processor rounds down.
    """
    published = Qwen2VLImageProcessorPil()
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "min_pixels": 4 * (MERGE * PATCH) ** 2,
        "max_pixels": IMAGE_SIZE * (IMAGE_SIZE + PATCH),
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": list(published.image_mean),
        "image_std": list(published.image_std),
    }


def patches_of(pixels: Tensor) -> Tensor:
    """Images as the tower takes them, (images, patches, values), 2 x 2 neighbours together."""
    images, channels, height, width = pixels.shape
    rows, columns = height // PATCH // MERGE, width // PATCH // MERGE
    cut = pixels.view(images, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)[..., None, :, :]
    twice = cut.expand(*cut.shape[:-3], 2, PATCH, PATCH)
    return twice.reshape(images, rows * columns * MERGE**2, -1)


def see(tower: Any, pixels: Tensor) -> Tensor:
    """The tower over images of one size at once, (images, tokens, hidden).

    The library's own forward runs attention image by image; this gives the same.
    """
    patches = patches_of(pixels)
    images, count, _ = patches.shape
    side = torch.tensor([[1, pixels.shape[2] // PATCH, pixels.shape[3] // PATCH]])
    places = get_vision_position_ids(side.to(pixels.device), MERGE)
    states = nn.functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
    cos, sin = tower.rotary_pos_emb(states, places)
    for block in tower.blocks:
        heads = block.attn.num_heads
        mixed = block.attn.qkv(block.norm1(states)).view(images, count, 3, heads, -1)
        query, key, value = mixed.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        attended = nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        states = states + block.attn.proj(attended.transpose(1, 2).reshape(images, count, -1))
        states = states + block.mlp(block.norm2(states))
    merged: Tensor = tower.merger(states).view(images, count // MERGE**2, -1)
    return merged
