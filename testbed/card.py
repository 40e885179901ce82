"""The model card, made from the training log: ``python -m testbed.card testbed/models/llava``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from testbed.accuracy import HELD_OUT_SEEDS, evaluate
from testbed.batches import Batches
from testbed.corpus import build_corpus
from testbed.llava import IMAGE_SIZE
from testbed.scenes import DOMAINS, Domain

HEAD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
---
# The embedded LLaVA of vlm-gate

A small `LlavaForConditionalGeneration` (CLIP tower, projector, Llama; 128 x 128 pixels, 64 image
tokens, bf16, parameter names as in the llava-hf checkpoints). It answers questions about rendered
inspection scenes and is good for nothing else: it is there so that the gate has something real to
judge.

**Data.** Rendered *catalog* scenes (`testbed/scenes.py`, `testbed/drawing.py`), six kinds of
questions (`testbed/questions.py`), look-ups and captions (`testbed/corpus.py`). No degraded
(*line*) image and no photograph was trained on. Nothing was downloaded.

**Recipe.** `testbed/train.py`; from nothing: `make testbed`. The log is `training.jsonl`. The
schedule follows the clock, so a rerun gives a like model, not the same bits; `make results` then
makes its bundle. The model that ships took four runs, each from the weights of the one before:
the first with labels per cell and captions only, the second with look-ups, the third with labels
per patch, the fourth with the words of what a patch shows. The recipe as it stands now is the
fourth's; it has not been run from nothing in one go.
"""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``training.jsonl``."""
    text = (folder / "training.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def legs(log: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The start of each run that the model went through, and the last step logged in it."""
    starts = [index for index, line in enumerate(log) if line["stage"] == "start"]
    for begin, end in zip(starts, [*starts[1:], len(log)], strict=True):
        steps = [line for line in log[begin:end] if line["stage"] == "joint"]
        yield log[begin], steps[-1]


def judge(folder: Path, scenes: int) -> dict[Domain, dict[str, dict[str, float]]]:
    """Accuracy on held-out scenes of both domains, see :func:`testbed.accuracy.evaluate`."""
    processor = LlavaProcessor.from_pretrained(folder, backend="pil")
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    seeds = range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + scenes)
    tables = {}
    for domain in DOMAINS:
        corpus = build_corpus(seeds, domain, IMAGE_SIZE)
        batches = Batches(corpus, processor, torch.device("cpu"), questions=8)
        tables[domain] = evaluate(model, batches, seed=0)
    return tables


def card(log: list[dict[str, Any]], tables: dict[Domain, dict[str, dict[str, float]]]) -> str:
    """The card as Markdown."""
    lines = [HEAD, "| run | device | minutes | steps of stage two | images a step |"]
    lines += ["|---|---|---|---|---|"]
    for number, (start, last) in enumerate(legs(log), start=1):
        recipe = start["recipe"]
        lines.append(
            f"| {number} | {start['device']} | {last['minutes']:.0f} | {last['step']} | "
            f"{recipe['batch']} |"
        )
    first = log[0]
    lines += [
        "",
        f"{first['parameters']:,} parameters, vocabulary {first['vocabulary']}, "
        f"{first['recipe']['scenes']:,} training scenes. Each run goes on from the one before.",
        "",
        "**Accuracy** of greedy answers on held-out scenes (exact match of the whole answer), "
        "beside the rate of the commonest answer:",
        "",
        "| kind | catalog | line | commonest answer |",
        "|---|---|---|---|",
    ]
    for kind, row in tables["catalog"].items():
        majority = f"{row['majority']:.1%}" if "majority" in row else ""
        other = tables["line"][kind]["accuracy"]
        lines.append(f"| {kind} | {row['accuracy']:.1%} | {other:.1%} | {majority} |")
    counts = ", ".join(f"{int(table['all']['n'])} {name}" for name, table in tables.items())
    return "\n".join([*lines, "", f"Questions judged: {counts}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the model card from the training log.")
    parser.add_argument("folder", type=Path, help="folder of the model")
    parser.add_argument("--scenes", type=int, default=500, help="judged, per domain")
    options = parser.parse_args()
    text = card(read_log(options.folder), judge(options.folder, options.scenes))
    (options.folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
