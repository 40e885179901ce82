"""A small PaliGemma, built, saved and loaded like the 3 B one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import (
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from testbed.family import IMAGE_TOKENS, SIDE, Family, renamed, write_json

IMAGE_SIZE = 128
PATCH = IMAGE_SIZE // SIDE
_PUBLISHED = (
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
)


class PaliGemma(Family):
    """SigLIP tower, linear projector, Gemma decoder that reads image and prompt both ways.

    The image's states depend on the question, so that every turn has a row of its own.
    """

    name = "paligemma"
    title = (
        "`PaliGemmaForConditionalGeneration` (SigLIP tower, linear projector, Gemma; "
        "128 x 128 pixels, attention both ways over image and prompt)"
    )
    image_size = IMAGE_SIZE
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    special_tokens = ("<pad>", "<eos>", "<bos>", "<unk>")
    image_token = "<image>"
    end_token = "<eos>"
    turn_tokens = 40
    apart = True
    share = 0.5

    def before(self) -> str:
        return self.image_token * IMAGE_TOKENS

    def turn(self, question: str) -> str:
        return f"<bos>answer en {question}\n"

    def dress(self, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
        dressed = PreTrainedTokenizerFast(
            tokenizer_object=with_line_end(tokenizer),
            bos_token="<bos>",
            eos_token="<eos>",
            unk_token="<unk>",
            pad_token="<pad>",
            model_max_length=512,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )
        # As published: words, then places and segments, then the image beyond the vocabulary.
        dressed.add_tokens(EXTRA_TOKENS)
        dressed.add_special_tokens({"additional_special_tokens": [self.image_token]})
        return dressed

    def build_model(self, tokenizer: PreTrainedTokenizerFast) -> PaliGemmaForConditionalGeneration:
        vision = SiglipVisionConfig(
            hidden_size=160,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=5,
            image_size=IMAGE_SIZE,
            patch_size=PATCH,
            vision_use_head=False,
        )
        text = GemmaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=448,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        config = PaliGemmaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids(self.image_token),
            vocab_size=len(tokenizer),
            projection_dim=192,
            hidden_size=192,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return PaliGemmaForConditionalGeneration(config)

    def load_model(self, folder: Path) -> PaliGemmaForConditionalGeneration:
        return PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    def tower(self, model: Any) -> nn.Module:
        tower: nn.Module = model.model.vision_tower
        return tower

    def look(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        states: Tensor = model.model.vision_tower(pixels).last_hidden_state
        return states, model.model.multi_modal_projector(states)

    def mask(self, segments: Tensor, prompts: Tensor, head: int) -> Tensor:
        """Image and prompt attend to each other both ways, the answer causally to all of it."""
        length = segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
        in_prefix = torch.arange(length, device=segments.device) < head
        both_ways = in_prefix | prompts
        token = in_prefix | (segments > 0)
        return (causal | (both_ways[:, :, None] & both_ways[:, None, :])) & token[:, None, :]

    def positions(self, within: Tensor, head: int, first: int) -> Tensor:
        return super().positions(within, head, first) + 1

    def published_name(self, name: str) -> str | None:
        # Tied to the embeddings, and not in the published files.
        return None if name.startswith("lm_head.") else renamed(name, _PUBLISHED)

    def save_settings(self, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        model.config.architectures = ["PaliGemmaForConditionalGeneration"]
        model.config.dtype = torch.bfloat16
        model.config.save_pretrained(folder)
        text = model.config.text_config
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        write_json(folder / "generation_config.json", {name: getattr(text, name) for name in names})
        images = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
        images.image_seq_length = IMAGE_TOKENS
        PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)


def with_line_end(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the line's end under its own name, as the published vocabulary has it.

    A byte-level vocabulary writes it "Ċ"; vLLM looks for it as it is. Its id stays.
    """
    stored = json.loads(tokenizer.to_str())
    vocabulary = stored["model"]["vocab"]
    vocabulary["\n"] = vocabulary.pop("Ċ")
    renamed_one = Tokenizer.from_str(json.dumps(stored))
    renamed_one.add_tokens([AddedToken("\n", normalized=False)])
    return renamed_one
