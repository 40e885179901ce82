"""Checkpoints without weights, of the papers' sizes: configuration, tokenizer and processor only.

Made from an embedded model's files with the published models' sizes put in; vLLM fills the weights
with random numbers (``load_format="dummy"``). Such a model says nothing, at the true speed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.host import ROOT
from benchmarks.sizes import LLAVA_7B, PALIGEMMA_3B, QWEN2_VL_7B

MODELS = ROOT / "testbed" / "models"


@dataclass(frozen=True, slots=True)
class Shape:
    """A published model's size.

    Args:
        base: the embedded model whose files are taken.
        text: of the decoder's configuration.
        vision: of the vision tower's.
        whole: of the configuration itself.
        processor: of the processor's configuration.
        pixels: side of the square image asked about.
        layers: hidden states read, a quarter, half, three quarters and all of the decoder.
        attention_layers: layers whose attention is read, where it is.
    """

    base: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    whole: Mapping[str, Any]
    processor: Mapping[str, Any]
    pixels: int
    layers: tuple[int, ...]
    attention_layers: tuple[int, ...]


SHAPES = {
    "llava-1.5-7b": Shape(
        base="llava",
        text={**LLAVA_7B.text, "head_dim": 128},
        vision=LLAVA_7B.vision,
        whole={"image_seq_length": 576, "vision_feature_layer": -2},
        processor={"patch_size": 14, "size": {"shortest_edge": 336},
                   "crop_size": {"height": 336, "width": 336}},
        pixels=336,
        layers=(8, 16, 24, 32),
        attention_layers=(16, 24),
    ),
    "qwen2-vl-7b": Shape(
        base="qwen2vl",
        text={**QWEN2_VL_7B.text, "head_dim": 128},
        vision=QWEN2_VL_7B.vision,
        whole={},
        processor={"min_pixels": 3136, "max_pixels": 12845056},
        pixels=672,
        layers=(7, 14, 21, 28),
        attention_layers=(14, 21),
    ),
    "paligemma-3b": Shape(
        base="paligemma",
        text=PALIGEMMA_3B.text,
        vision={**PALIGEMMA_3B.vision, "image_size": 336, "projection_dim": 2048,
                "num_image_tokens": 576},
        whole={"projection_dim": 2048, "hidden_size": 2048},
        processor={"image_seq_length": 576, "size": {"height": 336, "width": 336}},
        pixels=336,
        layers=(4, 9, 14, 18),
        attention_layers=(9, 14),
    ),
}  # fmt: skip
CONTEXT = 4096
"""Tokens of a prompt with its answer."""
TOY = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
"""Sizes of the decoder for a trial on a CPU."""


def write_shape(name: str, folder: Path, *, toy: bool = False) -> Path:
    """Write a checkpoint without weights.

    Args:
        name: of :data:`SHAPES`.
        folder: to write to.
        toy: a tiny decoder behind the embedded model's own tower, for a trial.
    """
    shape = SHAPES[name]
    source = MODELS / shape.base
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, folder)
    config = json.loads((folder / "config.json").read_text())
    flat = "text_config" not in config  # Qwen2-VL's, as published
    text = config if flat else config["text_config"]
    if toy:
        width = text["hidden_size"]
        for part in (config, config["vision_config"]):  # image features as wide as the decoder
            for key in ("hidden_size", "projection_dim"):
                if part.get(key) == width:
                    part[key] = TOY["hidden_size"]
        text.update(TOY)
    else:
        config.update(shape.whole)
        text.update({**shape.text, "max_position_embeddings": CONTEXT})
        config["vision_config"] = {**config["vision_config"], **shape.vision}
        _resize_processor(folder, shape.processor)
    text.pop("layer_types", None)
    # What the engine takes the model's revision from; vLLM does not read it.
    save_file({"nothing": np.zeros(1, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def _resize_processor(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Put sizes where the processor's files have them already."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = folder / name
        if not path.exists():
            continue
        whole = json.loads(path.read_text())
        for part in (whole, whole.get("image_processor", {})):
            for key, value in sizes.items():
                if key in part:
                    part[key] = value
        path.write_text(json.dumps(whole, indent=1))
    path = folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model_max_length"] = CONTEXT
    path.write_text(json.dumps(tokenizer, indent=1))
