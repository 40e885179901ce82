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
from testbed.questions import Question, ask
from testbed.scenes import Domain, Scene, caption, cell_labels, make_scene

CAPTION_REQUEST = "Describe the part."
TEXT_TOKENS = 208

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


def training_turns(scene: Scene, rng: np.random.Generator, questions: int) -> list[tuple[str, str]]:
    """A caption of the whole scene and ``questions`` question-answer pairs."""
    asked: list[Question] = ask(scene, rng, n=questions)
    return [(CAPTION_REQUEST, caption(scene)), *((q.text, q.answer) for q in asked)]
