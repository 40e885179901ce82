"""A corpus on the device, and the forward passes and losses that training needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from testbed.corpus import Corpus
from testbed.family import IMAGE_TOKENS, SIDE, Family
from testbed.scenes import CELL_CLASSES, GRID
from testbed.turns import Encoder, PackedTurns


class Batches:
    """Rows of a corpus as normalised pixels and cell labels, on the device as a whole."""

    def __init__(self, corpus: Corpus, family: Family, device: torch.device) -> None:
        self.corpus, self.device = corpus, device
        self.mean = torch.tensor(family.mean, device=device) * 255
        self.std = torch.tensor(family.std, device=device) * 255
        self.raw = torch.from_numpy(np.array(corpus.pixels)).to(device)
        self.classes = torch.from_numpy(corpus.cells).to(device)

    def pixels(self, rows: NDArray[np.int64]) -> Tensor:
        """Normalised pixels, (batch, 3, size, size)."""
        raw = self.raw[torch.from_numpy(rows).to(self.device)]
        return ((raw.float() - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()

    def cells(self, rows: NDArray[np.int64]) -> Tensor:
        """Classes of the cells, (batch, 4, 4)."""
        return self.classes[torch.from_numpy(rows).to(self.device)]


class PatchHead(nn.Module):
    """Tells from each patch's state what its cell holds and where it lies; for training only.

    Every patch must know its whole cell and its place: the decoder looks things up patch by patch.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.linear = nn.Linear(hidden, len(CELL_CLASSES) + 2 * GRID)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From states (batch, patches, hidden): logits of class, row and column, per patch."""
        logits = self.linear(self.norm(patches)).float()
        classes, rows, columns = logits.split([len(CELL_CLASSES), GRID, GRID], dim=-1)
        return classes, rows, columns


def patch_classes(cells: Tensor) -> Tensor:
    """Class of each image token's cell, (batch, 64), from the cells', (batch, 4, 4)."""
    times = SIDE // GRID
    return cells.repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1)


def patch_loss(told: tuple[Tensor, Tensor, Tensor], cells: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of what a :class:`PatchHead` told, and the share of taken patches that it got right.

    Args:
        told: logits, each (batch, 64, ...).
        cells: classes of the cells, (batch, 4, 4).
    """
    classes = patch_classes(cells)
    index = torch.arange(IMAGE_TOKENS, device=cells.device)
    row = (index // SIDE * GRID // SIDE).expand_as(classes)
    column = (index % SIDE * GRID // SIDE).expand_as(classes)
    loss = sum(
        nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten())
        for logits, truth in zip(told, (classes, row, column), strict=True)
    )
    assert isinstance(loss, Tensor)
    taken = classes > 0
    right = (told[0].argmax(-1) == classes) & taken
    return loss, right.sum() / taken.sum()


def class_words(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Per cell class the words that name it, as a distribution over tokens: (classes, vocabulary).

    "red washer" is half " red", half " washer"; an empty cell is " none".
    """
    table = torch.zeros(len(CELL_CLASSES), len(tokenizer))
    for index, name in enumerate(CELL_CLASSES):
        words = {"empty": ["none"], "missing screw": ["missing"]}.get(name, name.split())
        for word in words:
            table[index, tokenizer.encode(f" {word}", add_special_tokens=False)[0]] += 1 / len(
                words
            )
    return table


def word_loss(model: Any, image: Tensor, cells: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy that makes image tokens look like the embeddings of their cell's words.

    Looking a word up in the image is then comparing like with like, for every word at once.

    Args:
        image: as the decoder gets it, (batch, 64, hidden).
        cells: classes, (batch, 4, 4).
        words: :func:`class_words`.
    """
    directions = nn.functional.normalize(image.float(), dim=-1)
    known = nn.functional.normalize(model.get_input_embeddings().weight, dim=-1)
    logits = (8.0 * directions @ known.T).float()
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), words[patch_classes(cells)].flatten(0, 1)
    )


def answer_logits(
    family: Family, model: Any, image: Tensor, packed: PackedTurns, encoder: Encoder
) -> tuple[Tensor, Tensor]:
    """Logits at the targets, (targets, vocabulary), and the tokens that follow, (targets,).

    Args:
        image: image tokens of the batch's images, (images, 64, hidden).
        packed: turns on those images.
    """
    device = image.device
    prefix = encoder.prefix()
    head, first = (
        len(prefix),
        prefix.index(encoder.tokenizer.convert_tokens_to_ids(family.image_token)),
    )
    # Attention kernels like lengths that are multiples of 8.
    more = -(head + packed.tokens.shape[1]) % 8

    def whole(values: NDArray[Any], fill: int = 0) -> Tensor:
        padded = np.pad(values, ((0, 0), (head, more)), constant_values=fill)
        return torch.from_numpy(padded).to(device, non_blocking=True)

    tokens = whole(packed.tokens, encoder.pad)
    tokens[:, :head] = torch.tensor(prefix, device=device)
    embedded = model.get_input_embeddings()(tokens)
    seen = image[torch.from_numpy(packed.owners).to(device)].to(embedded.dtype)
    embeddings = torch.cat([embedded[:, :first], seen, embedded[:, first + IMAGE_TOKENS :]], dim=1)
    mask = family.mask(whole(packed.segments), whole(packed.prompts), head)
    positions = family.positions(whole(packed.positions), head, first)
    states = family.decode(model, embeddings, mask, positions)
    rows, columns = (torch.from_numpy(each).to(device) for each in packed.targets.nonzero())
    logits: Tensor = model.lm_head(states[rows, columns + head]).float()
    return logits, tokens[rows, columns + head + 1]
