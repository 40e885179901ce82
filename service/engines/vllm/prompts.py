"""Queries as vLLM takes them: the prompt's tokens with one image placeholder, and the image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoConfig, GenerationConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from probes.types import Query
from service.engines.base import EngineError
from service.engines.families import (
    PALIGEMMA,
    QWEN2_VL,
    Family,
    family_of,
    image_token_id,
)
from service.engines.patch_boxes import Grid
from service.engines.processors import load_processor, process
from service.engines.questions import Questions

SIZES_KEPT = 256


class Prompts:
    """The checkpoint's processor, tokenizer and configuration, without its weights.

    Args:
        source: folder, or name on the Hugging Face hub.
    """

    def __init__(self, source: str) -> None:
        try:
            self.config: Any = AutoConfig.from_pretrained(source)
            self.processor: Any = load_processor(source)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise EngineError(f"model: {source} cannot be loaded: {error}") from error
        self.family: Family = family_of(self.config, self.processor)
        self._questions = Questions(self.processor, self.family)
        self._image_token = image_token_id(self.config)
        self.ends = _end_tokens(source, self.processor.tokenizer)
        self._grids: OrderedDict[tuple[int, int], Grid | None] = OrderedDict()

    @property
    def loading(self) -> dict[str, Any]:
        """How vLLM is to load the processor: so that it sees the pixels that transformers does."""
        return {} if self.family is QWEN2_VL else {"backend": "pil"}

    @property
    def attend_both_ways(self) -> bool:
        """Whether the question attends both ways as the image does: it was trained so."""
        return self.family is PALIGEMMA

    def whole(self, query: Query) -> list[int]:
        """The prompt's tokens as the checkpoint's own processor makes them."""
        text = self.family.prompt(self.processor, self._questions.plain(query.question))
        tokens: list[int] = process(self.processor, query.image, text)["input_ids"][0].tolist()
        return tokens

    def prompt(self, query: Query) -> dict[str, Any]:
        """vLLM's prompt. Raises QueryRefused."""
        text = self.family.prompt(self.processor, self._questions.plain(query.question))
        tokenizer = self.processor.tokenizer
        if self.family is PALIGEMMA:
            # vLLM sets the image's tokens, the begin token and the line's end itself.
            text = text.removeprefix(self.processor.image_token)
            tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            begin = tokenizer.bos_token
            special = not (begin and text.startswith(begin))
            tokens = tokenizer(text, add_special_tokens=special)["input_ids"]
        image = Image.fromarray(query.image)
        if self.family is QWEN2_VL:
            image = resized(image, self.processor.image_processor)
        return {"prompt_token_ids": tokens, "multi_modal_data": {"image": image}}

    def grid(self, height: int, width: int) -> Grid | None:
        """Rows and columns of the image tokens of an image of this size.

        Asked of the processor once per size, by a blank image.
        """
        key = (height, width)
        if key not in self._grids:
            blank = np.zeros((height, width, 3), np.uint8)
            inputs = process(self.processor, blank, self.family.prompt(self.processor, "?"))
            tokens = int((inputs["input_ids"] == self._image_token).sum())
            self._grids[key] = self.family.grid(self.config, inputs, tokens)
            if len(self._grids) > SIZES_KEPT:
                self._grids.popitem(last=False)
        return self._grids[key]

    def check_answer(self, token_ids: Sequence[int], max_tokens: int) -> None:
        """Raise ValueError for tokens that no answer has."""
        known = self.config.get_text_config().vocab_size
        if len(token_ids) > max_tokens:
            raise ValueError(f"token_ids: {len(token_ids)}, but max_tokens is {max_tokens}")
        wrong = [one for one in token_ids if not 0 <= one < known or one in self.ends]
        if wrong:
            raise ValueError(f"token_ids: {wrong[0]} is no token of an answer")

    def text(self, tokens: tuple[int, ...]) -> str:
        """The answer's words, stripped."""
        decoded: str = self.processor.tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded.strip()


def resized(image: Image.Image, image_processor: Any) -> Image.Image:
    """The image at the size that Qwen2-VL sees it, resized as the transformers engine does.

    vLLM resizes with torchvision, whose pixels differ a little; an image of this size it leaves
    alone.
    """
    size = image_processor.size
    height, width = smart_resize(
        image.height,
        image.width,
        factor=image_processor.patch_size * image_processor.merge_size,
        min_pixels=size["shortest_edge"],
        max_pixels=size["longest_edge"],
    )
    return image.resize((width, height), Image.Resampling(image_processor.resample))


def _end_tokens(source: str, tokenizer: Any) -> frozenset[int]:
    """The checkpoint's end tokens, as transformers itself finds them."""
    try:
        ends = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:
        ends = None
    if ends is None:
        ends = tokenizer.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or ())
