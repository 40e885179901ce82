"""The recipe of the embedded models: ``python -m testbed.train llava --out testbed/models/llava``.

Two stages on clean catalog scenes only. First the vision tower learns what lies where (a label per
patch), then the whole model learns captions and questions, several independent turns per image
(see :class:`testbed.turns.PackedTurns`). The learning rate is constant, then falls to zero over
the last part of the time; ``--minutes`` is the budget of both stages by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from testbed.accuracy import HELD_OUT_SEEDS, evaluate
from testbed.batches import Batches, PatchHead, answer_logits, class_words, patch_loss, word_loss
from testbed.corpus import build_corpus
from testbed.families import FAMILIES
from testbed.family import Family, prompts_of
from testbed.scenes import make_scene
from testbed.turns import Encoder, Mix, PackedTurns, TurnStream, as_is, training_turns

# Seeds of the training scenes; testbed.accuracy holds those that are held out.
TRAIN_SEEDS = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the machine's arithmetic."""

    minutes: float = 20.0
    scenes: int = 64_000
    seed: int = 0
    batch: int = 48
    mix: Mix = field(default_factory=Mix)
    tower_share: float = 0.08
    tower_batch: int = 96
    tower_rate: float = 1e-3
    rate: float = 1.5e-3
    tower_rate_joint: float = 3e-4
    word_weight: float = 0.3
    decay_share: float = 0.4
    evaluate_scenes: int = 200
    looks: int = 6
    """How often the model is judged and saved before its end."""
    workers: int = 0
    """Processes that make questions ahead; 0: the training process itself."""

    @property
    def seeds(self) -> range:
        return range(TRAIN_SEEDS, TRAIN_SEEDS + self.scenes)

    @property
    def held_out(self) -> range:
        return range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + self.evaluate_scenes)


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


class Trainer:
    """One family's model under the recipe."""

    def __init__(
        self,
        family: Family,
        model: Any,
        encoder: Encoder,
        batches: Batches,
        recipe: Recipe,
        log: Log,
    ) -> None:
        self.family, self.model, self.encoder, self.batches = family, model, encoder, batches
        self.recipe, self.log = recipe, log
        self.device = batches.device
        self.fused = self.device.type == "cuda"

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.fused)

    def _step(self, optimiser: torch.optim.Optimizer, loss: torch.Tensor, parameters: Any) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    def train_tower(self) -> None:
        """Stage one: every patch of the vision tower learns what its cell holds, and its place."""
        recipe, batches = self.recipe, self.batches
        rng = np.random.default_rng(recipe.seed)
        width = self.family.look(self.model, batches.pixels(np.arange(1)))[0].shape[-1]
        head = PatchHead(width).to(self.device)
        self.model.train()
        parameters = [*self.family.tower(self.model).parameters(), *head.parameters()]
        optimiser = torch.optim.AdamW(
            parameters, lr=recipe.tower_rate, weight_decay=0.05, fused=self.fused
        )
        budget, begun, step = recipe.minutes * recipe.tower_share * 60, time.monotonic(), 0
        while (progress := (time.monotonic() - begun) / budget) < 1:
            step += 1
            rows = rng.choice(len(batches.corpus.scenes), recipe.tower_batch)
            optimiser.param_groups[0]["lr"] = recipe.tower_rate * schedule(progress, 0.5)
            with self._autocast():
                told = head(self.family.look(self.model, batches.pixels(rows))[0])
            loss, found = patch_loss(told, batches.cells(rows))
            self._step(optimiser, loss, parameters)
            if step % 50 == 0:
                loss_, found_ = round(loss.item(), 4), round(found.item(), 4)
                self.log(stage="tower", step=step, loss=loss_, found=found_)

    def train_jointly(
        self,
        turns: Iterator[tuple[NDArray[np.int64], PackedTurns]],
        look: Callable[[int], None],
    ) -> None:
        """Stage two: the whole model learns to answer. ``look`` judges and saves, also at last."""
        recipe, family, model = self.recipe, self.family, self.model
        tower = list(family.tower(model).parameters())
        known = {id(p) for p in tower}
        rest = [p for p in model.parameters() if id(p) not in known]
        groups = [
            {"params": rest, "peak": recipe.rate},
            {"params": tower, "peak": recipe.tower_rate_joint},
        ]
        optimiser = torch.optim.AdamW(
            groups, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.05, fused=self.fused
        )
        words = class_words(self.encoder.tokenizer).to(self.device)
        budget, begun = recipe.minutes * (1 - recipe.tower_share) * 60, time.monotonic()
        looked = 0
        for step, (rows, packed) in enumerate(turns, start=1):
            progress = (time.monotonic() - begun) / budget
            if progress >= 1:
                look(step - 1)
                break
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * schedule(progress, recipe.decay_share)
            with self._autocast():
                _, image = family.look(model, self.batches.pixels(rows))
                logits, following = answer_logits(family, model, image, packed, self.encoder)
                named = word_loss(model, image, self.batches.cells(rows), words)
            answers = nn.functional.cross_entropy(logits, following)
            self._step(optimiser, answers + recipe.word_weight * named, model.parameters())
            if step % 50 == 0:
                self.log(
                    stage="joint",
                    step=step,
                    answers=round(answers.item(), 4),
                    named=round(named.item(), 4),
                    tokens_right=round((logits.argmax(-1) == following).float().mean().item(), 4),
                )
            if progress * (recipe.looks + 1) >= looked + 1:
                looked += 1
                look(step)


def tokenizer_corpus(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Question-answer pairs that the tokenizer is trained on."""
    rng = np.random.default_rng(recipe.seed)
    for seed in recipe.seeds[:4000]:
        yield from training_turns(make_scene(seed, "catalog"), rng, Mix(6, 3, 1, 0))


def turn_loader(recipe: Recipe, family: Family, encoder: Encoder) -> DataLoader[Any]:
    """The recipe's turns, made ahead by its workers."""
    stream = TurnStream(
        recipe.seeds,
        "catalog",
        encoder.pack,
        recipe.batch,
        recipe.mix.scaled(family.share),
        recipe.seed,
    )
    ahead: dict[str, Any] = {}
    if recipe.workers:
        ahead = {"prefetch_factor": 8, "multiprocessing_context": "spawn"}
    return DataLoader(
        stream, batch_size=None, collate_fn=as_is, num_workers=recipe.workers, **ahead
    )


def train(
    family: Family,
    recipe: Recipe,
    out: Path,
    device: torch.device,
    *,
    cache: Path | None = None,
    start: Path | None = None,
    ends: float = math.inf,
) -> None:
    """Run the recipe, from scratch or from the model ``start``; write model and log.

    ``ends``: the recipe's minutes are cut so that training ends then, ``time.time`` seconds.
    """
    log = Log(out / "training.jsonl")
    torch.manual_seed(recipe.seed)
    if start is None:
        texts = prompts_of(family, tokenizer_corpus(recipe))
        tokenizer = family.build_tokenizer(texts)
        model = family.build_model(tokenizer).to(device)
    else:
        tokenizer = family.load_tokenizer(start)
        model = family.load_model(start).to(device)
    encoder = Encoder(family, tokenizer)
    turns = iter(turn_loader(recipe, family, encoder))
    corpus = build_corpus(recipe.seeds, "catalog", family.image_size, cache)
    batches = Batches(corpus, family, device)
    judged = build_corpus(recipe.held_out, "catalog", family.image_size, cache)
    held_out = Batches(judged, family, device)
    recipe = replace(recipe, minutes=min(recipe.minutes, (ends - time.time()) / 60))
    log(
        stage="start",
        family=family.name,
        recipe=asdict(recipe),
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(tokenizer),
        device=torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        torch=torch.__version__,
    )
    trainer = Trainer(family, model, encoder, batches, recipe, log)
    trainer.train_tower()

    def look(step: int) -> None:
        table = evaluate(family, model, held_out, encoder, recipe.seed)
        accuracy = {kind: round(row["accuracy"], 3) for kind, row in table.items()}
        log(stage="joint", step=step, accuracy=accuracy)
        family.save(model, tokenizer, out)

    trainer.train_jointly(turns, look)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an embedded model from scratch.")
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="images a step")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--workers", type=int, default=Recipe.workers)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start", type=Path, help="model to go on from")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered pixels")
    parser.add_argument("--ends", type=float, default=math.inf, help="time of the latest end")
    options = parser.parse_args()
    recipe = Recipe(
        minutes=options.minutes,
        scenes=options.scenes,
        batch=options.batch,
        seed=options.seed,
        workers=options.workers,
    )
    torch.set_float32_matmul_precision("high")
    train(
        FAMILIES[options.family],
        recipe,
        options.out,
        torch.device(options.device),
        cache=options.cache,
        start=options.start,
        ends=options.ends,
    )


if __name__ == "__main__":
    main()
