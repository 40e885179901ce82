"""A tiny random LLaVA, so that the contract is tested without the trained model."""

from __future__ import annotations

from pathlib import Path

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
