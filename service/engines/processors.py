"""The processor of a checkpoint: one image and one prompt to the model's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

NOT_FOR_THE_MODEL = ("labels",)
"""What a processor returns for training."""


class Qwen2VLParts:
    """Image processor and tokenizer of Qwen2-VL, loaded apart.

    The library's own processor needs torchvision even where there is no video. Gives the same
    arrays for one image.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.chat_template = chat_template
        self.image_token = "<|image_pad|>"
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)

    def apply_chat_template(self, messages: Sequence[Any], **options: Any) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, tokenize=False, **options
        )
        return text

    def __call__(
        self, images: Sequence[Any], text: Sequence[str], return_tensors: str, **options: Any
    ) -> Any:
        inputs = self.image_processor(images, return_tensors=return_tensors)
        merge = self.image_processor.merge_size**2
        (grid,), (prompt,) = inputs["image_grid_thw"], text
        whole = prompt.replace(self.image_token, self.image_token * int(grid.prod() // merge))
        inputs.update(self.tokenizer([whole], return_tensors=return_tensors, **options))
        is_image = inputs["input_ids"] == self.image_token_id
        inputs["mm_token_type_ids"] = is_image.astype(inputs["input_ids"].dtype)
        return inputs


def load_processor(source: str) -> Any:
    """The processor of a folder or hub name. Raises what the library raises."""
    if AutoConfig.from_pretrained(source).model_type != "qwen2_vl":
        return AutoProcessor.from_pretrained(source, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(source)
    # The published checkpoints keep the template with the tokenizer, in one file or another.
    return Qwen2VLParts(
        Qwen2VLImageProcessorPil.from_pretrained(source), tokenizer, tokenizer.chat_template
    )


def process(processor: Any, image: Any, prompt: str) -> dict[str, Tensor]:
    """The model's tensors for one image and one prompt, batch of one, on the host."""
    begin = processor.tokenizer.bos_token
    inputs = processor(
        images=[Image.fromarray(image)],
        text=[prompt],
        add_special_tokens=not (begin and prompt.startswith(begin)),
        return_tensors="np",
    )
    return {
        name: torch.from_numpy(values)
        for name, values in inputs.items()
        if name not in NOT_FOR_THE_MODEL
    }
