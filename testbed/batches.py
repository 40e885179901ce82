"""A corpus as tensors, and the two forward passes that training needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from testbed.corpus import Corpus, PackedTurns, encode_turn, pack_turns, training_turns
from testbed.llava import IMAGE_SIZE, IMAGE_TOKENS, PATCH
from testbed.scenes import CELL_CLASSES, GRID


class Batches:
    """Rows of a corpus as normalised pixels, cell labels and packed turns.

    Args:
        questions: question-answer pairs per image and pass, besides ``places`` look-ups.
        seed: of the order of the images and of the questions.
    """

    def __init__(
        self,
        corpus: Corpus,
        processor: LlavaProcessor,
        device: torch.device,
        questions: int,
        places: int = 0,
        seed: int = 0,
    ) -> None:
        self.corpus, self.device = corpus, device
        self.questions, self.places = questions, places
        self.tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        images = processor.image_processor
        self.mean = torch.tensor(images.image_mean, device=device) * 255
        self.std = torch.tensor(images.image_std, device=device) * 255
        self.rng = np.random.default_rng(seed)
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, remembered (the recipe's texts repeat)."""
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def indices(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Endless shuffled batches of rows."""
        while True:
            order = self.rng.permutation(len(self.corpus.scenes))
            yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))

    def pixels(self, rows: NDArray[np.int64]) -> Tensor:
        """Normalised pixels, (batch, 3, size, size)."""
        raw = torch.from_numpy(self.corpus.pixels[rows]).to(self.device)
        return ((raw.float() - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()

    def cells(self, rows: NDArray[np.int64]) -> Tensor:
        """Classes of the cells, (batch, 4, 4)."""
        return torch.from_numpy(self.corpus.cells[rows]).to(self.device)

    def turns(self, rows: NDArray[np.int64]) -> PackedTurns:
        """New questions for each row, packed."""
        end = self.tokenizer.eos_token_id
        packed = [
            [
                encode_turn(question, answer, self.encode, end)
                for question, answer in training_turns(
                    self.corpus.scenes[row], self.rng, self.questions, self.places
                )
            ]
            for row in rows
        ]
        return pack_turns(packed, self.tokenizer.pad_token_id)


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
        logits = self.linear(self.norm(patches))
        classes, rows, columns = logits.split([len(CELL_CLASSES), GRID, GRID], dim=-1)
        return classes, rows, columns


def patch_loss(told: tuple[Tensor, Tensor, Tensor], cells: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of what a :class:`PatchHead` told, and the share of taken patches that it got right.

    Args:
        told: logits, each (batch, patches, ...).
        cells: classes of the cells, (batch, 4, 4).
    """
    side = IMAGE_SIZE // PATCH // GRID
    classes = cells.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten(1)
    index = torch.arange(IMAGE_TOKENS, device=cells.device)
    row = (index // (GRID * side) // side).expand_as(classes)
    column = (index % (GRID * side) // side).expand_as(classes)
    loss = sum(
        nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten())
        for logits, truth in zip(told, (classes, row, column), strict=True)
    )
    assert isinstance(loss, Tensor)
    taken = classes > 0
    return loss, (told[0].argmax(-1) == classes)[taken].float().mean()


def patch_states(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """The tower's states of the image patches, (batch, patches, hidden)."""
    output = model.model.vision_tower(pixels, output_hidden_states=True)
    states: Tensor = output.hidden_states[-1][:, 1:]
    return states


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


def word_loss(
    model: LlavaForConditionalGeneration, patches: Tensor, cells: Tensor, words: Tensor
) -> Tensor:
    """Cross-entropy that makes projected patches look like the embeddings of their cell's words.

    Looking a word up in the image is then comparing like with like, for every word at once.

    Args:
        patches: states of the tower, (batch, patches, hidden).
        cells: classes, (batch, 4, 4).
        words: :func:`class_words`.
    """
    side = IMAGE_SIZE // PATCH // GRID
    classes = cells.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten(1)
    image = nn.functional.normalize(model.model.multi_modal_projector(patches), dim=-1)
    known = nn.functional.normalize(model.get_input_embeddings().weight, dim=-1)
    logits = 8.0 * image @ known.T
    return nn.functional.cross_entropy(logits.flatten(0, 1), words[classes].flatten(0, 1))


def image_prefix(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids in front of the question: ``<s>USER: `` and the image."""
    ids: list[int] = tokenizer.encode("USER: " + "<image>" * IMAGE_TOKENS)
    return ids


def answer_logits(
    model: LlavaForConditionalGeneration, patches: Tensor, packed: PackedTurns, prefix: list[int]
) -> tuple[Tensor, Tensor]:
    """Logits at the targets, (targets, vocabulary), and the tokens that follow, (targets,)."""
    device = patches.device
    tokens = torch.from_numpy(packed.tokens).to(device)
    segments = torch.from_numpy(packed.segments).to(device)
    batch, head = len(tokens), len(prefix)
    embed = model.get_input_embeddings()
    image = model.model.multi_modal_projector(patches)
    before = embed(torch.tensor(prefix[:-IMAGE_TOKENS], device=device)).expand(batch, -1, -1)
    inputs = torch.cat([before, image, embed(tokens)], dim=1)
    segments = nn.functional.pad(segments, (head, 0))
    positions = nn.functional.pad(torch.from_numpy(packed.positions).to(device) + head, (head, 0))
    positions[:, :head] = torch.arange(head, device=device)
    length = inputs.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    own = segments[:, :, None] == segments[:, None, :]
    in_prefix = torch.arange(length, device=device) < head
    mask = (own | in_prefix) & causal
    states = model.model.language_model(
        inputs_embeds=inputs, attention_mask=mask[:, None], position_ids=positions, use_cache=False
    ).last_hidden_state
    targets = torch.from_numpy(packed.targets).to(device)
    rows, columns = targets.nonzero(as_tuple=True)
    return model.lm_head(states[rows, columns + head]), tokens[rows, columns + 1]
