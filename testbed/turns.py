"""Questions and answers as training material: what is asked, and several turns packed in rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerFast

from testbed.family import Family
from testbed.questions import ask, referents
from testbed.scenes import (
    CELL_CLASSES,
    GRID,
    TYPES,
    Domain,
    Part,
    Scene,
    caption,
    cells_of,
    describe,
    make_scene,
    noun,
)

CAPTION_REQUEST = "Describe the part."
CAPTION_RATE = 0.1
THINGS = tuple(
    dict.fromkeys([*(name for name in CELL_CLASSES[1:] if not name.startswith("tilted")), *TYPES])
)
"""What may be asked for: every thing a cell can hold, and every type of part."""

Turn = tuple[list[int], int]
"""Token ids of one turn after the image, and how many of them are the prompt."""


@dataclass(frozen=True)
class Mix:
    """How many turns of each sort an image gets, besides the occasional caption.

    Args:
        questions: of the six kinds that the model is judged on.
        places: look-ups from thing to place and back.
        sides: from two things to where one lies from the other.
        relations: questions of the kind *relation*, beyond those among ``questions``.
    """

    questions: int = 8
    places: int = 5
    sides: int = 3
    relations: int = 2

    def scaled(self, share: float) -> Mix:
        """A part of each, at least one of those that there are."""

        def part(count: int) -> int:
            return max(round(count * share), min(count, 1))

        return Mix(part(self.questions), part(self.places), part(self.sides), part(self.relations))


def place_turns(scene: Scene, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Questions from thing to place ("row 2 at 3", or "none") and from place to thing.

    They teach the two look-ups that every other kind of question is made of; a yes or a no alone
    says too little.
    """
    places: dict[str, list[str]] = {}
    for (row, col), thing in cells_of(scene).items():
        where = f"row {row + 1} at {col + 1}"
        names = {noun(thing)} | ({thing.type} if isinstance(thing, Part) else set())
        for name in sorted(names):
            places.setdefault(name, []).append(where)
    there = sorted(places)
    turns = []
    for _ in range(count):
        draw = rng.random()
        if draw < 0.3:
            row, col = (int(v) for v in rng.integers(GRID, size=2))
            if draw < 0.2:
                row, col = list(cells_of(scene))[int(rng.integers(len(cells_of(scene))))]
            found = cells_of(scene).get((row, col))
            answer = describe(found) if found else "none"
            turns.append((f"What is row {row + 1} at {col + 1}?", answer))
        else:
            names_to_ask = there if draw < 0.7 else THINGS
            name = names_to_ask[int(rng.integers(len(names_to_ask)))]
            turns.append((f"Where is the {name}?", ", ".join(places.get(name, ["none"]))))
    return turns


def side_turns(scene: Scene, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Where one part lies from another, by row and by column: "above left", "below", "right".

    They teach the comparison that a relation asks for, again with more than a yes or a no.
    """
    known = list(referents(scene).items())
    if len(known) < 2:
        return []
    turns = []
    for _ in range(count):
        (one, a), (other, b) = (known[int(i)] for i in rng.permutation(len(known))[:2])
        words = []
        if a.row != b.row:
            words.append("above" if a.row < b.row else "below")
        if a.col != b.col:
            words.append("left" if a.col < b.col else "right")
        turns.append((f"Where is {one} from {other}?", " ".join(words)))
    return turns


def training_turns(scene: Scene, rng: np.random.Generator, mix: Mix) -> list[tuple[str, str]]:
    """Question-answer pairs on one image: real kinds, look-ups, and now and then a caption."""
    asked = [*ask(scene, rng, n=mix.questions), *ask(scene, rng, ["relation"], n=mix.relations)]
    turns = [
        *((q.text, q.answer) for q in asked),
        *place_turns(scene, rng, mix.places),
        *side_turns(scene, rng, mix.sides),
    ]
    if rng.random() < CAPTION_RATE:
        turns.insert(0, (CAPTION_REQUEST, caption(scene)))
    return turns


@dataclass(frozen=True, eq=False)
class PackedTurns:
    """Turns on images, several in a row that cannot see each other, or each in its own row.

    Every turn attends to the image prefix and to itself only, at the positions it would have if it
    were alone, so that one pass trains many single-turn conversations. All but the last are of
    shape (rows, length).

    Args:
        tokens: text token ids, padded.
        segments: number of the turn among its image's turns, from 1; 0 for padding.
        positions: position within the turn.
        prompts: whether the token belongs to the prompt.
        targets: whether the *next* token is part of an answer.
        owners: number of the row's image in the batch, (rows,).
    """

    tokens: NDArray[np.int64]
    segments: NDArray[np.int64]
    positions: NDArray[np.int64]
    prompts: NDArray[np.bool_]
    targets: NDArray[np.bool_]
    owners: NDArray[np.int64]


def pack_turns(
    turns: Sequence[Sequence[Turn]], pad: int, length: int, *, apart: bool = False
) -> PackedTurns:
    """Pack each image's turns into a row of ``length`` tokens, or each turn into its own.

    What does not fit is left out.
    """
    rows: list[tuple[int, list[tuple[int, Turn]]]] = []
    for image, some in enumerate(turns):
        numbered = list(enumerate(some, start=1))
        if apart:
            rows += [(image, [turn]) for turn in numbered if len(turn[1][0]) <= length]
        else:
            rows.append((image, numbered))
    shape = (len(rows), length)
    tokens, segments = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    positions, targets = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    prompts = np.zeros(shape, dtype=np.bool_)
    for row, (_, numbered) in enumerate(rows):
        at = 0
        for number, (ids, prompt) in numbered:
            end = at + len(ids)
            if end > length:
                continue
            tokens[row, at:end] = ids
            segments[row, at:end] = number
            positions[row, at:end] = np.arange(len(ids))
            prompts[row, at : at + prompt] = True
            targets[row, at + prompt - 1 : end - 1] = True
            at = end
    owners = np.array([image for image, _ in rows], dtype=np.int64)
    return PackedTurns(tokens, segments, positions, prompts, targets, owners)


class Encoder:
    """Turns as token ids; remembers texts, for the recipe's repeat."""

    def __init__(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        self.family, self.tokenizer = family, tokenizer
        self.known: dict[str, list[int]] = {}
        self.end: int = tokenizer.convert_tokens_to_ids(family.end_token)
        self.pad: int = tokenizer.pad_token_id

    def text(self, text: str) -> list[int]:
        """Token ids of a text, control tokens read as such, none added."""
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def prefix(self) -> list[int]:
        """Token ids in front of every turn, the image's among them."""
        return self.text(self.family.before())

    def turn(self, question: str, answer: str) -> Turn:
        prompt = self.text(self.family.turn(question))
        return [*prompt, *self.text(self.family.answer(answer)), self.end], len(prompt)

    def pack(self, pairs: Sequence[Sequence[tuple[str, str]]]) -> PackedTurns:
        """Each image's question-answer pairs, packed as the family wants them."""
        turns = [[self.turn(*pair) for pair in some] for some in pairs]
        return pack_turns(turns, self.pad, self.family.turn_tokens, apart=self.family.apart)


class TurnStream(IterableDataset):  # type: ignore[type-arg]
    """Endless shuffled batches of images with new questions: (rows of the corpus, packed turns).

    Meant for the worker processes of a DataLoader; each has its own order and questions.
    """

    def __init__(
        self,
        seeds: range,
        domain: Domain,
        encode: Callable[[Sequence[Sequence[tuple[str, str]]]], PackedTurns],
        size: int,
        mix: Mix,
        seed: int,
    ) -> None:
        self.seeds, self.domain, self.encode = seeds, domain, encode
        self.size, self.mix, self.seed = size, mix, seed

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], PackedTurns]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, 0 if worker is None else worker.id])
        scenes = [make_scene(seed, self.domain) for seed in self.seeds]
        while True:
            order = rng.permutation(len(scenes))
            for start in range(0, len(order) - self.size + 1, self.size):
                rows = order[start : start + self.size]
                yield (
                    rows,
                    self.encode([training_turns(scenes[row], rng, self.mix) for row in rows]),
                )


def as_is(item: object) -> object:
    """The DataLoader's conversion: none."""
    return item
