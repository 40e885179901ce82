"""Queries as the model takes them: one prompt's tensors, and several padded into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probes.types import Missing
from service.engines.patch_boxes import Grid
from service.engines.transformers.taps import WordRows
from service.engines.words import Words


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One processed query, on the host.

    Args:
        inputs: the processor's tensors, batch of one; ``input_ids`` is (1, tokens).
        question: as the model is asked it.
        image_positions: columns of the image tokens, (image_tokens,).
        grid: rows and columns of the image tokens, or ``None`` when they do not form one.
        max_tokens: most tokens that the answer may have.
        entered: when the request came, by ``time.perf_counter``, seconds.
    """

    inputs: Mapping[str, Tensor]
    question: str
    image_positions: Tensor
    grid: Grid | None
    max_tokens: int
    entered: float

    @property
    def length(self) -> int:
        """Tokens of the prompt, image tokens included."""
        return self.inputs["input_ids"].shape[1]


def collate(
    prompts: Sequence[Prompt], pad: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """One batch on the device. What is as long as the tokens is padded on the left."""
    width = max(prompt.length for prompt in prompts)
    batch = {}
    for name, first in prompts[0].inputs.items():
        parts = [prompt.inputs[name] for prompt in prompts]
        if first.shape == (1, prompts[0].length):
            fill = pad if name == "input_ids" else 0
            parts = [
                torch.nn.functional.pad(part, (width - part.shape[1], 0), value=fill)
                for part in parts
            ]
        whole = torch.cat(parts).to(device)
        batch[name] = whole.to(dtype) if whole.is_floating_point() else whole
    return batch


def image_columns(prompts: Sequence[Prompt], device: torch.device) -> Tensor:
    """Columns of the image tokens in the padded batch, (rows, image_tokens), ended by 0s."""
    width = max(prompt.length for prompt in prompts)
    shifted = [prompt.image_positions + (width - prompt.length) for prompt in prompts]
    return torch.nn.utils.rnn.pad_sequence(shifted, batch_first=True).to(device)


def word_rows(
    prompts: Sequence[Prompt], words: Sequence[Words | Missing], device: torch.device
) -> WordRows | None:
    """The questions' words in the padded batch; ``None`` when no row asks for them."""
    known = [one for one in words if isinstance(one, Words)]
    if not known:
        return None
    width = max(prompt.length for prompt in prompts)
    most = max(len(one.content) + len(one.boundary) for one in known)
    columns = torch.full((len(prompts), most), width - 1)
    shares = torch.zeros((len(prompts), 2, most))
    for row, (prompt, one) in enumerate(zip(prompts, words, strict=True)):
        if isinstance(one, Words):
            content, both = len(one.content), (*one.content, *one.boundary)
            columns[row, : len(both)] = torch.tensor(both) + (width - prompt.length)
            shares[row, 0, :content] = 1 / content
            shares[row, 1, content : len(both)] = 1 / len(one.boundary)
    return WordRows(columns.to(device), shares.to(device))
