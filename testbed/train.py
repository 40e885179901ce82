"""The recipe of the embedded model: ``python -m testbed.train --out testbed/models/llava``.

Two stages on clean catalog scenes only. First the vision tower learns what lies where (a label per
patch), then the whole model learns captions and questions, several independent turns per image
(see :class:`testbed.corpus.PackedTurns`). The learning rate is constant, then falls to zero over
the last quarter of the time; ``--minutes`` is the budget of both stages, evaluation excluded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from testbed.accuracy import HELD_OUT_SEEDS, evaluate
from testbed.batches import (
    Batches,
    PatchHead,
    answer_logits,
    class_words,
    image_prefix,
    patch_loss,
    patch_states,
    word_loss,
)
from testbed.corpus import TEXT_TOKENS, Corpus, build_corpus, training_turns
from testbed.llava import IMAGE_SIZE, build_model, build_processor, build_tokenizer
from testbed.llava import save_model as save_llava

# Seeds of the training scenes; testbed.accuracy holds those that are held out.
TRAIN_SEEDS = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the machine's arithmetic."""

    minutes: float = 20.0
    scenes: int = 32_000
    seed: int = 0
    batch: int = 8
    questions: int = 8
    places: int = 6
    tower_share: float = 0.08
    tower_batch: int = 32
    tower_rate: float = 1e-3
    rate: float = 1.5e-3
    tower_rate_joint: float = 3e-4
    word_weight: float = 0.3
    decay_share: float = 0.25
    evaluate_scenes: int = 250


def schedule(progress: float, decay_share: float) -> float:
    """Factor on the learning rate at ``progress``, 0 to 1: warm-up, constant, linear to zero."""
    if progress < 0.01:
        return max(progress / 0.01, 0.01)
    return min(1.0, max(0.0, (1.0 - progress) / decay_share))


class Log:
    """One JSON object a line, on the screen and in the log that is kept beside the model."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        self.path = path
        self.start = time.monotonic()

    def __call__(self, **fields: object) -> None:
        line = json.dumps({"minutes": round((time.monotonic() - self.start) / 60, 2), **fields})
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def train_tower(
    model: LlavaForConditionalGeneration,
    head: PatchHead,
    batches: Batches,
    recipe: Recipe,
    log: Log,
) -> None:
    """Stage one: every patch of the vision tower learns what its cell holds, and its place."""
    model.train()
    parameters = [*model.model.vision_tower.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.tower_rate, weight_decay=0.05)
    budget, begun = recipe.minutes * recipe.tower_share * 60, time.monotonic()
    for step, rows in enumerate(batches.indices(recipe.tower_batch), start=1):
        progress = (time.monotonic() - begun) / budget
        if progress >= 1:
            break
        optimiser.param_groups[0]["lr"] = recipe.tower_rate * schedule(progress, 0.5)
        told = head(patch_states(model, batches.pixels(rows)))
        loss, found = patch_loss(told, batches.cells(rows))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            log(stage="tower", step=step, loss=round(loss.item(), 4), found=round(found.item(), 4))


def train_jointly(
    model: LlavaForConditionalGeneration,
    batches: Batches,
    held_out: Batches,
    recipe: Recipe,
    log: Log,
    keep: Callable[[], None],
) -> None:
    """Stage two: the whole model learns to answer."""
    tower = list(model.model.vision_tower.parameters())
    known = {id(p) for p in tower}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "peak": recipe.rate}, {"params": tower, "peak": recipe.tower_rate_joint}],
        lr=recipe.rate,
        betas=(0.9, 0.95),
        weight_decay=0.05,
    )
    prefix = image_prefix(batches.tokenizer)
    words = class_words(batches.tokenizer).to(batches.device)
    budget, begun = recipe.minutes * (1 - recipe.tower_share) * 60, time.monotonic()
    looked = saved = 0.0
    for step, rows in enumerate(batches.indices(recipe.batch), start=1):
        spent = time.monotonic() - begun - looked
        if spent >= budget:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * schedule(spent / budget, recipe.decay_share)
        patches = patch_states(model, batches.pixels(rows))
        logits, following = answer_logits(model, patches, batches.turns(rows), prefix)
        answers = nn.functional.cross_entropy(logits.float(), following)
        named = word_loss(model, patches, batches.cells(rows), words)
        loss = answers + recipe.word_weight * named
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            log(
                stage="joint",
                step=step,
                answers=round(answers.item(), 4),
                named=round(named.item(), 4),
                tokens_right=round((logits.argmax(-1) == following).float().mean().item(), 4),
            )
        if spent - saved >= budget / 8:
            saved, before = spent, time.monotonic()
            table = evaluate(model, held_out, recipe.seed)
            log(
                stage="joint",
                step=step,
                accuracy={k: round(v["accuracy"], 3) for k, v in table.items()},
            )
            keep()
            looked += time.monotonic() - before


def tokenizer_corpus(corpus: Corpus, seed: int) -> Iterator[str]:
    """Text that the tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    for scene in corpus.scenes[:4000]:
        for question, answer in training_turns(scene, rng, 6, 3):
            yield f"\n{question} ASSISTANT:"
            yield f" {answer}"
    yield from ["USER: "] * 4000


def train(
    recipe: Recipe, out: Path, device: torch.device, cache: Path | None, start: Path | None
) -> None:
    """Run the recipe, from scratch or from the model ``start``; write model and log."""
    log = Log(out / "training.jsonl")
    torch.manual_seed(recipe.seed)
    seeds = range(TRAIN_SEEDS, TRAIN_SEEDS + recipe.scenes)
    corpus = build_corpus(seeds, "catalog", IMAGE_SIZE, cache)
    if start is None:
        processor = build_processor(build_tokenizer(tokenizer_corpus(corpus, recipe.seed)))
        model = build_model(processor.tokenizer).to(device)
    else:
        processor = LlavaProcessor.from_pretrained(start, backend="pil")
        model = LlavaForConditionalGeneration.from_pretrained(start, dtype=torch.float32).to(device)
    batches = Batches(corpus, processor, device, recipe.questions, recipe.places, recipe.seed)
    seeds = range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + recipe.evaluate_scenes)
    held_out = Batches(
        build_corpus(seeds, "catalog", IMAGE_SIZE, cache), processor, device, questions=8
    )
    log(
        stage="start",
        recipe=asdict(recipe),
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(processor.tokenizer),
        text_tokens=TEXT_TOKENS,
        device=device.type,
        torch=torch.__version__,
    )
    head = PatchHead(model.config.vision_config.hidden_size).to(device)
    train_tower(model, head, batches, recipe, log)

    def keep() -> None:
        save_llava(model, processor, out)

    train_jointly(model, batches, held_out, recipe, log, keep)
    keep()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded model from scratch.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--tower-share", type=float, default=Recipe.tower_share)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="model to go on from")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered pixels")
    options = parser.parse_args()
    recipe = Recipe(
        minutes=options.minutes,
        scenes=options.scenes,
        seed=options.seed,
        tower_share=options.tower_share,
    )
    train(recipe, options.out, torch.device(options.device), options.cache, options.start)


if __name__ == "__main__":
    main()
