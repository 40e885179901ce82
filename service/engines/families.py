"""What differs between families of vision-language models: the prompt, and where the image lies.

A family is found by the checkpoint's ``model_type``. Any other checkpoint that declares an image
token and a chat template is served by the generic entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from probes.types import FloatArray, Missing
from service.engines.base import EngineError
from service.engines.patch_boxes import (
    Grid,
    ImageSize,
    cropped_boxes,
    resized_boxes,
    unknown_boxes,
)


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table.

    Args:
        name: the family's name, part of the model's identity.
        model_types: ``model_type`` of the checkpoints that belong to it.
        prompt: (processor, question) to the prompt's text with one image placeholder.
        grid: (model config, one processed input, its image tokens) to the rows and columns of the
            image tokens, or ``None`` when they do not form one.
        patch_boxes: (model config, processor, (height, width) of the original image, grid) to the
            rectangle of the original image that each image token covers, (tokens, 4): left, top,
            right, bottom in pixels, in raster order; ``Missing`` where that is not known.
    """

    name: str
    model_types: tuple[str, ...]
    prompt: Callable[[Any, str], str]
    grid: Callable[[Any, Mapping[str, Any], int], Grid | None]
    patch_boxes: Callable[[Any, Any, ImageSize, Grid], FloatArray | Missing]


def chat_prompt(processor: Any, question: str) -> str:
    """The prompt by the processor's own chat template: one user turn, image first."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    prompt: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return prompt


def task_prompt(processor: Any, question: str) -> str:
    """PaliGemma's prompt: no chat, but a task word in front ("answer" in English).

    The processor adds the begin token after the image and the newline after the question.
    """
    return f"{processor.image_token}answer en {question}"


def square_grid(config: Any, inputs: Mapping[str, Any], tokens: int) -> Grid | None:
    """A square, if the number of image tokens is one."""
    side = math.isqrt(tokens)
    return (side, side) if tokens and side * side == tokens else None


def patch_grid(config: Any, inputs: Mapping[str, Any], tokens: int) -> Grid | None:
    """One token per patch of the processed image (no class token among them)."""
    height, width = inputs["pixel_values"].shape[-2:]
    patch = config.vision_config.patch_size
    rows, columns = height // patch, width // patch
    return (rows, columns) if rows * columns == tokens else None


def merged_grid(config: Any, inputs: Mapping[str, Any], tokens: int) -> Grid | None:
    """One token per square of merged patches of the one image, by the processor's own count."""
    (time, height, width), *more = inputs["image_grid_thw"].tolist()
    merge = config.vision_config.spatial_merge_size
    rows, columns = height // merge, width // merge
    return (rows, columns) if not more and time * rows * columns == tokens else None


LLAVA = Family("llava", ("llava",), chat_prompt, patch_grid, cropped_boxes)
PALIGEMMA = Family("paligemma", ("paligemma",), task_prompt, patch_grid, resized_boxes)
QWEN2_VL = Family("qwen2vl", ("qwen2_vl",), chat_prompt, merged_grid, resized_boxes)
GENERIC = Family("generic", (), chat_prompt, square_grid, unknown_boxes)
FAMILIES: tuple[Family, ...] = (LLAVA, PALIGEMMA, QWEN2_VL)


def image_token_id(config: Any) -> int:
    """Id of the token that stands for a piece of the image. Raises EngineError if none is."""
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    raise EngineError(
        f"model: the checkpoint ({config.model_type}) declares no image token; "
        "use a vision-language checkpoint whose config.json has image_token_id"
    )


def family_of(config: Any, processor: Any) -> Family:
    """The family of a loaded checkpoint. Raises EngineError when it cannot be served."""
    image_token_id(config)
    for family in FAMILIES:
        if config.model_type in family.model_types:
            return family
    if not getattr(processor, "chat_template", None):
        raise EngineError(
            f"model: {config.model_type} is not in the table of families and its processor has no "
            "chat template; use an instruction-tuned checkpoint"
        )
    return GENERIC
