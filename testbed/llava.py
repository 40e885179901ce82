"""A small LLaVA, built, saved and loaded like the 7 B one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from testbed.family import IMAGE_TOKENS, SIDE, Family, renamed, write_json

IMAGE_SIZE = 128
PATCH = IMAGE_SIZE // SIDE
# The template of the published llava-1.5 checkpoints, for one turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' ' }}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_PUBLISHED = (
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)


class Llava(Family):
    """CLIP tower, two-layer projector, Llama decoder."""

    name = "llava"
    title = "`LlavaForConditionalGeneration` (CLIP tower, projector, Llama; 128 x 128 pixels)"
    image_size = IMAGE_SIZE
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    special_tokens = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
    image_token = "<image>"
    end_token = "</s>"

    def before(self) -> str:
        return "<s>USER: " + self.image_token * IMAGE_TOKENS

    def turn(self, question: str) -> str:
        return f"\n{question} ASSISTANT:"

    def answer(self, text: str) -> str:
        return f" {text}"

    def dress(self, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            pad_token="<pad>",
            additional_special_tokens=["<image>"],
            model_max_length=512,
            padding_side="left",
            clean_up_tokenization_spaces=False,
        )

    def build_model(self, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
        vision = CLIPVisionConfig(
            hidden_size=160,
            intermediate_size=640,
            projection_dim=160,
            num_hidden_layers=4,
            num_attention_heads=5,
            image_size=IMAGE_SIZE,
            patch_size=PATCH,
        )
        text = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=448,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids(self.image_token),
            image_seq_length=IMAGE_TOKENS,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
        )
        return LlavaForConditionalGeneration(config)

    def load_model(self, folder: Path) -> LlavaForConditionalGeneration:
        return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    def tower(self, model: Any) -> nn.Module:
        tower: nn.Module = model.model.vision_tower
        return tower

    def look(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model.model.vision_tower(pixels, output_hidden_states=True)
        states: Tensor = output.hidden_states[-1][:, 1:]
        return states, model.model.multi_modal_projector(states)

    def published_name(self, name: str) -> str:
        return renamed(name, _PUBLISHED)

    def save_settings(self, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        model.config.architectures = ["LlavaForConditionalGeneration"]
        model.config.dtype = torch.bfloat16
        model.config.save_pretrained(folder)
        text = model.config.text_config
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        write_json(folder / "generation_config.json", {name: getattr(text, name) for name in names})
        LlavaProcessor(
            image_processor=CLIPImageProcessorPil(
                size={"shortest_edge": IMAGE_SIZE},
                crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            ),
            tokenizer=tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=CHAT_TEMPLATE,
        ).save_pretrained(folder)
