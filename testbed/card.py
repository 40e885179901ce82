"""The model card, made from the training log: ``python -m testbed.card llava``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from testbed.accuracy import HELD_OUT_SEEDS, evaluate
from testbed.batches import Batches
from testbed.corpus import build_corpus
from testbed.families import FAMILIES
from testbed.family import Family
from testbed.scenes import DOMAINS, Domain
from testbed.turns import Encoder

MODELS = Path(__file__).parent / "models"
Table = dict[str, dict[str, float]]

HEAD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
---
# The embedded {name} of vlm-gate

A small {title}, 64 image tokens a scene, bf16, parameter names and settings as in the published
checkpoints. It answers questions about rendered inspection scenes and is good for nothing else: it
is there so that the gate has something real to judge.

**Data.** {scenes:,} rendered *catalog* scenes (`testbed/scenes.py`, `testbed/drawing.py`), six
kinds of questions (`testbed/questions.py`), look-ups and captions (`testbed/turns.py`). No degraded
(*line*) image and no photograph was trained on. Nothing was downloaded.

**Recipe.** `testbed/train.py`, the same for every family; from nothing: `make testbed`. The log is
`training.jsonl`. The schedule follows the clock, so a rerun gives a like model, not the same bits.
This one: {steps:,} steps of {batch} images in {minutes:.0f} minutes on {device}, together with
{together}; {parameters:,} parameters, vocabulary {vocabulary}.

**Accuracy** of greedy answers on held-out scenes (exact match of the whole answer), beside the rate
of the commonest answer:

| kind | catalog | line | commonest answer |
|---|---|---|---|
"""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``training.jsonl``."""
    text = (folder / "training.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def judge(
    family: Family, folder: Path, scenes: int, device: torch.device, cache: Path | None = None
) -> dict[Domain, Table]:
    """Accuracy on held-out scenes of both domains, see :func:`testbed.accuracy.evaluate`."""
    encoder = Encoder(family, family.load_tokenizer(folder))
    model = family.load_model(folder).to(device)
    seeds = range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + scenes)
    tables = {}
    for domain in DOMAINS:
        corpus = build_corpus(seeds, domain, family.image_size, cache)
        batches = Batches(corpus, family, device)
        tables[domain] = evaluate(family, model, batches, encoder, seed=0)
    return tables


def card(family: Family, log: list[dict[str, Any]], tables: dict[Domain, Table]) -> str:
    """The card as Markdown."""
    start = next(line for line in log if line["stage"] == "start")
    last = [line for line in log if line["stage"] == "joint"][-1]
    head = HEAD.format(
        name=family.name,
        title=family.title,
        scenes=start["recipe"]["scenes"],
        batch=start["recipe"]["batch"],
        steps=last["step"],
        minutes=last["minutes"],
        device=start["device"],
        together="the other families" if start["recipe"]["workers"] else "nothing else",
        parameters=start["parameters"],
        vocabulary=start["vocabulary"],
    )
    lines = []
    for kind, row in tables["catalog"].items():
        majority = f"{row['majority']:.1%}" if "majority" in row else ""
        other = tables["line"][kind]["accuracy"]
        lines.append(f"| {kind} | {row['accuracy']:.1%} | {other:.1%} | {majority} |")
    counts = ", ".join(f"{int(table['all']['n'])} {name}" for name, table in tables.items())
    return head + "\n".join([*lines, "", f"Questions judged: {counts}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the model card from the training log.")
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--folder", type=Path, help="of the model; testbed/models/FAMILY")
    parser.add_argument("--scenes", type=int, default=500, help="judged, per domain")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered pixels")
    options = parser.parse_args()
    family = FAMILIES[options.family]
    folder = options.folder or MODELS / family.name
    device = torch.device(options.device)
    tables = judge(family, folder, options.scenes, device, options.cache)
    text = card(family, read_log(folder), tables)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(json.dumps({"family": family.name, "tables": tables}))


if __name__ == "__main__":
    main()
