"""Each family: training's packed forward is the published model's, and what is saved loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from testbed.batches import Batches, answer_logits
from testbed.corpus import build_corpus
from testbed.drawing import render
from testbed.families import FAMILIES
from testbed.family import Family, prompts_of
from testbed.scenes import make_scene
from testbed.train import Recipe, tokenizer_corpus
from testbed.turns import Encoder

SEEDS = range(5, 7)
PAIRS = [
    [("Is there a red washer?", "no"), ("What is left of the seal?", "a blue label")],
    [("How many holes are there?", "3"), ("Where is the dent?", "row 2 at 3, row 4 at 1")],
]
NAMES = {
    "llava": (
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.embeddings.class_embedding",
        "multi_modal_projector.linear_1.weight",
    ),
    "paligemma": (
        "language_model.model.embed_tokens.weight",
        "vision_tower.vision_model.post_layernorm.weight",
        "multi_modal_projector.linear.weight",
    ),
    "qwen2vl": (
        "model.layers.5.mlp.gate_proj.weight",
        "lm_head.weight",
        "visual.blocks.0.attn.qkv.weight",
        "visual.merger.mlp.2.weight",
    ),
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A family, its random model in memory, and the folder that it was saved to."""
    family = FAMILIES[request.param]
    torch.manual_seed(0)
    texts = prompts_of(family, tokenizer_corpus(Recipe(scenes=200)))
    tokenizer = family.build_tokenizer(texts)
    model = family.build_model(tokenizer).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # As saved; and larger, so that attention is not uniform and a wrong mask shows.
            scale = 3.0 if parameter.ndim > 1 else 1.0
            parameter.copy_((parameter * scale).bfloat16())
    folder = tmp_path_factory.mktemp("families") / family.name
    family.save(model, tokenizer, folder)
    return family, model, tokenizer, folder


def published_inputs(family: Family, folder: Path, image: Image.Image, question: str) -> Any:
    """The prompt's tensors, made from the saved files as the published model's users do."""
    turn = [{"type": "image"}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": turn}]
    if family.name == "qwen2vl":  # its processor wants torchvision, for video
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = Qwen2VLImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pad = "<|image_pad|>"
        text = text.replace(pad, pad * int(inputs["image_grid_thw"].prod() // 4))
        inputs.update(tokenizer(text, return_tensors="pt"))
        ids = inputs["input_ids"]
        inputs["mm_token_type_ids"] = (ids == tokenizer.convert_tokens_to_ids(pad)).int()
        return inputs
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    if family.name == "paligemma":
        # As arrays: the library's way to tensors warns under numpy 2.
        inputs = processor(images=image, text=f"<image>answer en {question}", return_tensors="np")
        return {k: torch.from_numpy(v) for k, v in inputs.items() if k != "labels"}
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    return processor(images=image, text=text, add_special_tokens=True, return_tensors="pt")


def test_packed_turns_give_the_published_models_logits(saved: Any) -> None:
    family, model, tokenizer, folder = saved
    loaded = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    encoder = Encoder(family, tokenizer)
    batches = Batches(
        build_corpus(SEEDS, "catalog", family.image_size), family, torch.device("cpu")
    )
    packed = encoder.pack(PAIRS)
    with torch.inference_mode():
        _, image = family.look(model, batches.pixels(np.arange(2)))
        ours, following = answer_logits(family, model, image, packed, encoder)
    at = 0
    for seed, some in zip(SEEDS, PAIRS, strict=True):
        picture = Image.fromarray(render(make_scene(seed, "catalog")))
        for question, answer in some:
            inputs = published_inputs(family, folder, picture, question)
            said = [*encoder.text(family.answer(answer)), encoder.end]
            prompt = inputs["input_ids"].shape[1]
            more = torch.tensor([said[:-1]])
            for name, value in list(inputs.items()):
                if value.shape == (1, prompt):
                    fill = more if name == "input_ids" else torch.ones_like(more)
                    fill = torch.zeros_like(more) if name == "mm_token_type_ids" else fill
                    inputs[name] = torch.cat([value, fill], 1)
            with torch.inference_mode():
                theirs = loaded(**inputs).logits[0, prompt - 1 :]
            mine = slice(at, at + len(said))
            assert following[mine].tolist() == said
            torch.testing.assert_close(ours[mine], theirs, atol=2e-3, rtol=2e-3)
            at += len(said)
    assert at == len(following)


def test_saved_names_and_sizes_are_the_published_ones(saved: Any) -> None:
    family, _, _, folder = saved
    _, loaded = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names >= set(NAMES[family.name])
    assert not [name for name in names if name.startswith("model.") and family.name != "qwen2vl"]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [type(family.build_model(saved[2])).__name__]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6


def test_vllm_finds_the_line_end_of_paligemma(tmp_path: Path) -> None:
    texts = prompts_of(FAMILIES["paligemma"], PAIRS[0])
    FAMILIES["paligemma"].build_tokenizer(texts).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer("is it red?\n", add_special_tokens=False)["input_ids"]
    assert tokens[-1] == tokenizer.get_vocab()["\n"]
    assert tokenizer.decode(tokens) == "is it red?\n"
