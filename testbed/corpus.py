"""Training material: rendered scenes, dense labels, and packed question-answer turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from testbed.drawing import render
from testbed.questions import ask
from testbed.scenes import (
    CELL_CLASSES,
    GRID,
    TYPES,
    Domain,
    Part,
    Scene,
    caption,
    cell_labels,
    cells_of,
    describe,
    make_scene,
    noun,
)

CAPTION_REQUEST = "Describe the part."
CAPTION_RATE = 0.1
TEXT_TOKENS = 208
THINGS = tuple(
    dict.fromkeys([*(name for name in CELL_CLASSES[1:] if not name.startswith("tilted")), *TYPES])
)
"""What may be asked for: every thing a cell can hold, and every type of part."""

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Scenes with their pixels (n, size, size, 3) uint8 and cell classes (n, 4, 4)."""

    scenes: tuple[Scene, ...]
    pixels: NDArray[np.uint8]
    cells: NDArray[np.int64]


def _render_small(seed: int, domain: Domain, size: int) -> NDArray[np.uint8]:
    image = Image.fromarray(render(make_scene(seed, domain)))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def build_corpus(seeds: range, domain: Domain, size: int, cache: Path | None = None) -> Corpus:
    """Render the scenes of ``seeds`` at ``size`` pixels, or take the pixels from ``cache``."""
    scenes = tuple(make_scene(seed, domain) for seed in seeds)
    path = cache / f"{domain}-{seeds.start}-{seeds.stop}-{size}.npy" if cache else None
    if path is not None and path.exists():
        pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    else:
        chunks = Parallel(n_jobs=-1, batch_size=64)(
            delayed(_render_small)(seed, domain, size) for seed in seeds
        )
        pixels = np.stack(list(chunks))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels)
    return Corpus(scenes, pixels, np.stack([cell_labels(scene) for scene in scenes]))


@dataclass(frozen=True, eq=False)
class PackedTurns:
    """Several turns on one image that cannot see each other.

    Every turn attends to the image prefix and to itself only, at the positions it would have if it
    were alone, so that one pass trains many single-turn conversations.

    Args:
        tokens: text token ids, shape (batch, TEXT_TOKENS), padded with ``pad``.
        segments: turn number from 1, 0 for padding, same shape.
        positions: position within the turn, same shape.
        targets: whether the *next* token is part of an answer, same shape.
    """

    tokens: NDArray[np.int64]
    segments: NDArray[np.int64]
    positions: NDArray[np.int64]
    targets: NDArray[np.bool_]


def encode_turn(question: str, answer: str, encode: Encode, end: int) -> tuple[list[int], int]:
    """Token ids of one turn after the image, and how many of them are the prompt."""
    prompt = list(encode(f"\n{question} ASSISTANT:"))
    return [*prompt, *encode(f" {answer}"), end], len(prompt)


def pack_turns(
    turns: Sequence[Sequence[tuple[list[int], int]]], pad: int, length: int = TEXT_TOKENS
) -> PackedTurns:
    """Pack each image's turns into a row of ``length`` tokens; what does not fit is left out."""
    shape = (len(turns), length)
    tokens, segments = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    positions, targets = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for row, row_turns in enumerate(turns):
        at = 0
        for number, (ids, prompt) in enumerate(row_turns, start=1):
            end = at + len(ids)
            if end > length:
                continue
            tokens[row, at:end] = ids
            segments[row, at:end] = number
            positions[row, at:end] = np.arange(len(ids))
            targets[row, at + prompt - 1 : end - 1] = True
            at = end
    return PackedTurns(tokens, segments, positions, targets)


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


def training_turns(
    scene: Scene, rng: np.random.Generator, questions: int, places: int
) -> list[tuple[str, str]]:
    """Question-answer pairs on one image: real kinds, look-ups, and now and then a caption."""
    asked = [(q.text, q.answer) for q in ask(scene, rng, n=questions)]
    turns = [*asked, *place_turns(scene, rng, places)]
    if rng.random() < CAPTION_RATE:
        turns.insert(0, (CAPTION_REQUEST, caption(scene)))
    return turns
