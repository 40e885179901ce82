"""How often the model is right, per kind of question."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from testbed.batches import Batches, answer_logits, image_prefix, patch_states
from testbed.corpus import encode_turn, pack_turns
from testbed.questions import ask

HELD_OUT_SEEDS = 100_000
"""First seed of the scenes that the model is judged on, in either domain."""


@torch.no_grad()
def evaluate(
    model: LlavaForConditionalGeneration,
    held_out: Batches,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Accuracy of greedy answers per kind of question, with the majority-answer rate beside it.

    An answer is greedy-correct exactly if every token of the reference is the most likely one given
    the reference's prefix, so one forward pass per image suffices.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    right: dict[str, list[bool]] = defaultdict(list)
    said: dict[str, list[str]] = defaultdict(list)
    end, pad = held_out.tokenizer.eos_token_id, held_out.tokenizer.pad_token_id
    prefix = image_prefix(held_out.tokenizer)
    scenes = held_out.corpus.scenes
    for start in range(0, len(scenes), 32):
        rows = np.arange(start, min(start + 32, len(scenes)))
        asked = [ask(scenes[row], rng, n=8) for row in rows]
        packed = pack_turns(
            [[encode_turn(q.text, q.answer, held_out.encode, end) for q in some] for some in asked],
            pad,
        )
        logits, following = answer_logits(
            model, patch_states(model, held_out.pixels(rows)), packed, prefix
        )
        hits = (logits.argmax(-1) == following).cpu().numpy()
        at_rows, at_columns = packed.targets.nonzero()
        turn = packed.segments[at_rows, at_columns]
        for row, some in enumerate(asked):
            for number, question in enumerate(some, start=1):
                here = (at_rows == row) & (turn == number)
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
