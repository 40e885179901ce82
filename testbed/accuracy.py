"""How often the model is right, per kind of question."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from testbed.batches import Batches, answer_logits
from testbed.family import Family
from testbed.questions import ask
from testbed.turns import Encoder

HELD_OUT_SEEDS = 100_000
"""First seed of the scenes that the model is judged on, in either domain."""
ASKED = 8
"""Questions per scene."""


@torch.no_grad()
def evaluate(
    family: Family, model: Any, held_out: Batches, encoder: Encoder, seed: int
) -> dict[str, dict[str, float]]:
    """Accuracy of greedy answers per kind of question, with the majority-answer rate beside it.

    An answer is greedy-correct exactly if every token of the reference is the most likely one given
    the reference's prefix, so one forward pass per image suffices.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    right: dict[str, list[bool]] = defaultdict(list)
    said: dict[str, list[str]] = defaultdict(list)
    scenes = held_out.corpus.scenes
    for start in range(0, len(scenes), 32):
        rows = np.arange(start, min(start + 32, len(scenes)))
        asked = [ask(scenes[row], rng, n=ASKED) for row in rows]
        packed = encoder.pack([[(q.text, q.answer) for q in some] for some in asked])
        _, image = family.look(model, held_out.pixels(rows))
        logits, following = answer_logits(family, model, image, packed, encoder)
        hits = (logits.argmax(-1) == following).cpu().numpy()
        at_rows, at_columns = packed.targets.nonzero()
        images, turns = packed.owners[at_rows], packed.segments[at_rows, at_columns]
        for number, some in enumerate(asked):
            for turn, question in enumerate(some, start=1):
                here = (images == number) & (turns == turn)
                if here.any():
                    right[question.kind].append(bool(hits[here].all()))
                    said[question.kind].append(question.answer)
    model.train()
    table = {
        kind: {
            "accuracy": float(np.mean(right[kind])),
            "majority": max(said[kind].count(a) for a in set(said[kind])) / len(said[kind]),
            "n": float(len(right[kind])),
        }
        for kind in sorted(right)
    }
    every = [hit for hits_of_kind in right.values() for hit in hits_of_kind]
    table["all"] = {"accuracy": float(np.mean(every)), "n": float(len(every))}
    return table
