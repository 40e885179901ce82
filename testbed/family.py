"""What a family of models must bring to be trained here, and what all of them share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SIDE = 8
IMAGE_TOKENS = SIDE * SIDE
"""Every family sees a scene as 8 x 8 image tokens, in raster order."""


class Family(ABC):
    """One family: how its prompt reads, how its model is built, run in training and saved.

    A turn is what follows the part of the prompt that ends with the image: the rest of the prompt
    and the answer. Several turns share one image, see :class:`testbed.turns.PackedTurns`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """What the model card says of it: class, and its parts in brackets."""
    image_size: ClassVar[int]
    mean: ClassVar[Sequence[float]]
    std: ClassVar[Sequence[float]]
    special_tokens: ClassVar[tuple[str, ...]]
    """In the order of their ids, from 0."""
    image_token: ClassVar[str]
    end_token: ClassVar[str]
    turn_tokens: ClassVar[int] = 296
    """Length of a row of text in training."""
    apart: ClassVar[bool] = False
    """Whether a row holds one turn only, because the image's states depend on the question."""
    share: ClassVar[float] = 1.0
    """Of the recipe's turns per image."""

    @abstractmethod
    def before(self) -> str:
        """The prompt up to the image, and the image."""

    @abstractmethod
    def turn(self, question: str) -> str:
        """The rest of the prompt."""

    def answer(self, text: str) -> str:
        """The answer as it follows the prompt, without the end token."""
        return text

    def build_tokenizer(self, corpus: Iterable[str], size: int = 640) -> PreTrainedTokenizerFast:
        """Train a byte-level BPE on the corpus; any text encodes, frequent words are one token."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(self.special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(corpus, trainer)
        return self.dress(tokenizer)

    @abstractmethod
    def dress(self, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
        """The trained tokenizer with the family's roles of the special tokens."""

    def load_tokenizer(self, folder: Path) -> PreTrainedTokenizerFast:
        """The tokenizer of a saved model."""
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        return tokenizer

    @abstractmethod
    def build_model(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        """A randomly initialised model, about 4 M parameters."""

    @abstractmethod
    def load_model(self, folder: Path) -> Any:
        """A saved model, in float32."""

    @abstractmethod
    def tower(self, model: Any) -> nn.Module:
        """The part that the first stage trains."""

    @abstractmethod
    def look(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The image's states.

        Args:
            pixels: normalised, (images, 3, size, size).

        Returns:
            The tower's states, (images, 64, tower width), and the image tokens as the decoder gets
            them, (images, 64, hidden), both in raster order.
        """

    def mask(self, segments: Tensor, prompts: Tensor, head: int) -> Tensor:
        """Which token may attend to which: the prefix and the own turn, causally.

        Args:
            segments: turn of each token, 0 in the prefix and in the padding, (rows, length).
            prompts: whether the token belongs to a turn's prompt, (rows, length).
            head: tokens of the prefix.

        Returns:
            (rows, length, length), true: attends.
        """
        length = segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
        own = segments[:, :, None] == segments[:, None, :]
        in_prefix = torch.arange(length, device=segments.device) < head
        return (own | in_prefix) & causal

    def positions(self, within: Tensor, head: int, first: int) -> Tensor:
        """Position ids as the decoder takes them.

        Args:
            within: position of each token in its turn, 0 in the prefix, (rows, length).
            head: tokens of the prefix.
            first: column of the first image token.
        """
        positions = within + head
        positions[:, :head] = torch.arange(head, device=within.device)
        return positions

    def decode(self, model: Any, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """The decoder's last states, (rows, length, hidden)."""
        states: Tensor = model.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask[:, None],
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return states

    @abstractmethod
    def published_name(self, name: str) -> str | None:
        """A parameter's name in the published checkpoints; ``None``: it is not in them."""

    @abstractmethod
    def save_settings(self, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        """Write configuration, tokenizer and processor as the published checkpoints have them."""

    def save(self, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        """Write bf16 weights under the published names, and everything that loads them."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            published: tensor.detach().to("cpu", torch.bfloat16).contiguous()
            for name, tensor in model.state_dict().items()
            if (published := self.published_name(name)) is not None
        }
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        self.save_settings(model, tokenizer, folder)


def renamed(name: str, table: Iterable[tuple[str, str]]) -> str:
    """The name with the first prefix of the table that fits replaced."""
    for prefix, replacement in table:
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    raise ValueError(f"no published name for parameter {name}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """One object, indented as the library writes its own."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def prompts_of(family: Family, pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Text that the family's tokenizer is trained on, without its special tokens."""

    def plain(text: str) -> str:
        for token in family.special_tokens:
            text = text.replace(token, "")
        return text

    for question, answer in pairs:
        yield plain(family.turn(question))
        yield plain(family.answer(answer))
        # Words stand after a space in a sentence and without one at an answer's start.
        yield f" {answer}"
    yield from [plain(family.before())] * 4000
