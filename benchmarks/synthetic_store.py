"""A store of a large model's size with made-up hidden states, written shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from probes.data.record import Record
from probes.data.store import Arrays, Place, Setup, Store, Writer
from probes.signals.attention import ATTENTION_METRICS
from probes.signals.image_features import IMAGE_FEATURES
from probes.signals.sampling import image_hash
from probes.types import GenerationSettings, Missing, ModelIdentity, TokenConfidence

DIRECTIONS = 300
QUESTIONS = 5
SHARD = 500


def write_store(folder: Path, answers: int, width: int, places: Sequence[Place]) -> Store:
    """States are a few hundred shared directions of falling strength, and noise.

    One of the directions raises the chance that the answer is wrong; deeper layers show it better.
    """
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(DIRECTIONS, width)).astype(np.float32)
    mixing *= (np.arange(1, DIRECTIONS + 1, dtype=np.float32) ** -0.5)[:, None]
    setup = Setup(
        model=ModelIdentity("synthetic", "r", "synthetic", 32, width, "float32", "none", "p", "t"),
        generation=GenerationSettings(samples=0),
        readouts=tuple(places),
        attention_layers=(),
        dataset="synthetic",
        shard_size=SHARD,
    )
    pictures = folder.with_name(folder.name + "-images")
    pictures.mkdir(parents=True)
    writer = Writer(folder, setup)
    for start in range(0, answers, SHARD):
        count = min(SHARD, answers - start)
        truth = rng.normal(size=count)
        wrong = rng.random(count) < 1 / (1 + np.exp(1.0 - 2.0 * truth))
        latent = rng.normal(size=(count, DIRECTIONS)).astype(np.float32)
        hidden = {}
        for depth, place in enumerate(places):
            seen = latent.copy()
            seen[:, 40] = 0.5 * seen[:, 40] + (0.2 + 0.1 * depth) * truth
            states = seen @ mixing + 0.5 * rng.normal(size=(count, width)).astype(np.float32)
            hidden[place] = states.astype(np.float16)
        records = [
            _record(pictures, start + row, bool(wrong[row]), -float(np.exp(0.3 * truth[row])))
            for row in range(count)
        ]
        writer.append(records, hidden, _arrays(rng, count, len(places)), {})
    return writer.finish()


def _record(pictures: Path, number: int, wrong: bool, logprob: float) -> Record:
    image = number // QUESTIONS
    pixels = np.full((4, 4, 3), (image % 256, image // 256 % 256, image // 65536), dtype=np.uint8)
    path = pictures / f"{image}.png"
    if not path.exists():
        Image.fromarray(pixels).save(path)
    return Record(
        id=str(number), image_path=str(path), image_hash=image_hash(pixels),
        question=f"question {number % 97}?", references=("no" if wrong else "yes",),
        kind="presence", slice="all", rule="yes_no", answer="yes", parsed="yes", wrong=wrong,
        finish_reason="stop", tokens=1, confidence=TokenConfidence(logprob, 0.3, 1.0 - logprob),
        attention=Missing("not_requested"), samples=(),
    )  # fmt: skip


def _arrays(rng: np.random.Generator, count: int, places: int) -> Arrays:
    return Arrays(
        present=np.ones((count, places), dtype=bool),
        attention=np.zeros((count, 2, 0, len(ATTENTION_METRICS)), dtype=np.float32),
        attention_present=np.zeros(count, dtype=bool),
        image_features=rng.normal(size=(count, len(IMAGE_FEATURES))),
    )
