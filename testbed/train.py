"""The recipe of the embedded model: ``python -m testbed.train --out testbed/models/llava``.

Two stages on clean catalog scenes only. First the vision tower learns what lies in each cell (dense
labels), then the whole model learns captions and questions, several independent turns per image
(see :class:`testbed.corpus.PackedTurns`). The learning rate is constant, then falls to zero over the
last quarter of the time; ``--minutes`` is the budget of both stages together, evaluation excluded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from testbed.corpus import (
    TEXT_TOKENS,
    Corpus,
    PackedTurns,
    build_corpus,
    encode_turn,
    pack_turns,
    training_turns,
)
from testbed.llava import IMAGE_SIZE, IMAGE_TOKENS, build_model, build_processor, build_tokenizer
from testbed.llava import save_model as save_llava
from testbed.questions import ask
from testbed.scenes import CELL_CLASSES, GRID, Domain

# Seeds of the scenes; held-out ranges never meet the training range.
TRAIN_SEEDS = 1_000_000
HELD_OUT_SEEDS = 100_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the machine's arithmetic."""

    minutes: float = 20.0
    scenes: int = 32_000
    seed: int = 0
    batch: int = 8
    questions: int = 10
    tower_share: float = 0.12
    tower_batch: int = 32
    tower_rate: float = 1e-3
    rate: float = 1e-3
    tower_rate_joint: float = 5e-4
    cell_weight: float = 0.2
    decay_share: float = 0.25
    evaluate_scenes: int = 250


class CellHead(nn.Module):
    """Classifies each scene cell from the tower's patch states; used in training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        side = IMAGE_SIZE // 16 // GRID
        self.side = side
        self.norm = nn.LayerNorm(hidden)
        self.linear = nn.Linear(hidden * side * side, len(CELL_CLASSES))

    def forward(self, patches: Tensor) -> Tensor:
        """Map patch states (batch, patches, hidden) to logits (batch, 4, 4, classes)."""
        batch, _, hidden = patches.shape
        grid = self.norm(patches).view(batch, GRID, self.side, GRID, self.side, hidden)
        return self.linear(grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, GRID, GRID, -1))


def patch_states(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """The tower's states of the image patches, (batch, patches, hidden)."""
    output = model.model.vision_tower(pixels, output_hidden_states=True)
    return output.hidden_states[-1][:, 1:]


class Batches:
    """Endless shuffled batches of normalised pixels, cell labels and packed turns."""

    def __init__(
        self, corpus: Corpus, processor: LlavaProcessor, recipe: Recipe, device: torch.device
    ) -> None:
        self.corpus, self.recipe, self.device = corpus, recipe, device
        self.tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        images = processor.image_processor
        self.mean = torch.tensor(images.image_mean, device=device) * 255
        self.std = torch.tensor(images.image_std, device=device) * 255
        self.rng = np.random.default_rng(recipe.seed)
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def indices(self, size: int) -> Iterator[np.ndarray]:
        while True:
            order = self.rng.permutation(len(self.corpus.scenes))
            yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))

    def pixels(self, rows: np.ndarray) -> Tensor:
        raw = torch.from_numpy(np.asarray(self.corpus.pixels[np.sort(rows)])).to(self.device)
        return ((raw.float() - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()

    def cells(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.corpus.cells[np.sort(rows)]).to(self.device)

    def turns(self, rows: np.ndarray) -> PackedTurns:
        end = self.tokenizer.eos_token_id
        packed = [
            [
                encode_turn(question, answer, self.encode, end)
                for question, answer in training_turns(
                    self.corpus.scenes[row], self.rng, self.recipe.questions
                )
            ]
            for row in np.sort(rows)
        ]
        return pack_turns(packed, self.tokenizer.pad_token_id)


def image_prefix(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids in front of the question: ``<s>USER: `` and the image."""
    return tokenizer.encode("USER: " + "<image>" * IMAGE_TOKENS)


def answer_logits(
    model: LlavaForConditionalGeneration, patches: Tensor, packed: PackedTurns, prefix: list[int]
) -> tuple[Tensor, Tensor]:
    """Logits at the target positions (targets, vocabulary) and the tokens that follow (targets,)."""
    device = patches.device
    tokens = torch.from_numpy(packed.tokens).to(device)
    segments = torch.from_numpy(packed.segments).to(device)
    batch, head = len(tokens), len(prefix)
    embed = model.get_input_embeddings()
    image = model.model.multi_modal_projector(patches)
    before = embed(torch.tensor(prefix[:-IMAGE_TOKENS], device=device)).expand(batch, -1, -1)
    inputs = torch.cat([before, image, embed(tokens)], dim=1)
    segments = nn.functional.pad(segments, (head, 0))
    positions = nn.functional.pad(torch.from_numpy(packed.positions).to(device) + head, (head, 0))
    positions[:, :head] = torch.arange(head, device=device)
    length = inputs.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    own = segments[:, :, None] == segments[:, None, :]
    in_prefix = torch.arange(length, device=device) < head
    mask = (own | in_prefix) & causal
    states = model.model.language_model(
        inputs_embeds=inputs, attention_mask=mask[:, None], position_ids=positions, use_cache=False
    ).last_hidden_state
    targets = torch.from_numpy(packed.targets).to(device)
    rows, columns = targets.nonzero(as_tuple=True)
    return model.lm_head(states[rows, columns + head]), tokens[rows, columns + 1]


def schedule(progress: float, decay_share: float) -> float:
    """Factor on the learning rate at ``progress`` (0 to 1): short warm-up, constant, linear to zero."""
    if progress < 0.01:
        return max(progress / 0.01, 0.01)
    return min(1.0, max(0.0, (1.0 - progress) / decay_share))


@torch.no_grad()
def evaluate(
    model: LlavaForConditionalGeneration,
    batches: Batches,
    corpus: Corpus,
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
    end, pad = batches.tokenizer.eos_token_id, batches.tokenizer.pad_token_id
    prefix = image_prefix(batches.tokenizer)
    probe = Batches.__new__(Batches)
    probe.__dict__.update(batches.__dict__, corpus=corpus)
    for start in range(0, len(corpus.scenes), 32):
        rows = np.arange(start, min(start + 32, len(corpus.scenes)))
        asked = [ask(corpus.scenes[row], rng, n=8) for row in rows]
        packed = pack_turns(
            [[encode_turn(q.text, q.answer, batches.encode, end) for q in some] for some in asked],
            pad,
        )
        logits, following = answer_logits(
            model, patch_states(model, probe.pixels(rows)), packed, prefix
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


class Log:
    """One JSON object a line, on the screen and in the log that is kept beside the model."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")
        self.start = time.monotonic()

    def __call__(self, **fields: object) -> None:
        line = json.dumps({"minutes": round((time.monotonic() - self.start) / 60, 2), **fields})
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()


def train_tower(
    model: LlavaForConditionalGeneration, head: CellHead, batches: Batches, recipe: Recipe, log: Log
) -> None:
    """Stage one: the vision tower learns the class of every cell."""
    model.train()
    parameters = [*model.model.vision_tower.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.tower_rate, weight_decay=0.05)
    budget, begun, step = recipe.minutes * recipe.tower_share * 60, time.monotonic(), 0
    for rows in batches.indices(recipe.tower_batch):
        progress = (time.monotonic() - begun) / budget
        if progress >= 1:
            break
        optimiser.param_groups[0]["lr"] = recipe.tower_rate * schedule(progress, 0.5)
        logits = head(patch_states(model, batches.pixels(rows)))
        cells = batches.cells(rows)
        loss = nn.functional.cross_entropy(logits.flatten(0, 2), cells.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            taken = cells > 0
            found = (logits.argmax(-1) == cells)[taken].float().mean()
            log(stage="tower", step=step, loss=round(float(loss), 4), found=round(float(found), 4))


def train_jointly(
    model: LlavaForConditionalGeneration,
    head: CellHead,
    batches: Batches,
    held_out: Corpus,
    recipe: Recipe,
    log: Log,
    keep: Callable[[], None],
) -> None:
    """Stage two: captions and questions, with the cell labels kept at a small weight."""
    tower = [*model.model.vision_tower.parameters(), *head.parameters()]
    known = {id(p) for p in tower}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "peak": recipe.rate}, {"params": tower, "peak": recipe.tower_rate_joint}],
        lr=recipe.rate,
        betas=(0.9, 0.95),
        weight_decay=0.05,
    )
    prefix = image_prefix(batches.tokenizer)
    budget, begun, step = recipe.minutes * (1 - recipe.tower_share) * 60, time.monotonic(), 0
    looked = saved = 0.0
    for rows in batches.indices(recipe.batch):
        spent = time.monotonic() - begun - looked
        if spent >= budget:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * schedule(spent / budget, recipe.decay_share)
        patches = patch_states(model, batches.pixels(rows))
        logits, following = answer_logits(model, patches, batches.turns(rows), prefix)
        cells = batches.cells(rows)
        answers = nn.functional.cross_entropy(logits.float(), following)
        dense = nn.functional.cross_entropy(head(patches).flatten(0, 2), cells.flatten())
        loss = answers + recipe.cell_weight * dense
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            log(
                stage="joint",
                step=step,
                answers=round(float(answers.detach()), 4),
                cells=round(float(dense.detach()), 4),
                tokens_right=round(float((logits.argmax(-1) == following).float().mean()), 4),
            )
        if spent - saved >= budget / 12:
            saved, before = spent, time.monotonic()
            table = evaluate(model, batches, held_out, recipe.seed)
            log(stage="joint", step=step, accuracy={k: round(v["accuracy"], 3) for k, v in table.items()})
            keep()
            looked += time.monotonic() - before


def tokenizer_corpus(corpus: Corpus, seed: int) -> Iterator[str]:
    """Text that the tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    for scene in corpus.scenes[:4000]:
        for question, answer in training_turns(scene, rng, 6):
            yield f"\n{question} ASSISTANT:"
            yield f" {answer}"
    yield from ["USER: "] * 4000


def train(recipe: Recipe, out: Path, device: torch.device, cache: Path | None) -> None:
    """Run the recipe and write the model, its log and its recipe to ``out``."""
    log = Log(out / "training.jsonl")
    torch.manual_seed(recipe.seed)
    seeds = range(TRAIN_SEEDS, TRAIN_SEEDS + recipe.scenes)
    corpus = build_corpus(seeds, "catalog", IMAGE_SIZE, cache)
    looks: dict[Domain, Corpus] = {
        domain: build_corpus(
            range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + recipe.evaluate_scenes), domain, IMAGE_SIZE, cache
        )
        for domain in ("catalog", "line")
    }
    tokenizer = build_tokenizer(tokenizer_corpus(corpus, recipe.seed))
    processor = build_processor(tokenizer)
    model = build_model(tokenizer).to(device)
    head = CellHead(model.config.vision_config.hidden_size).to(device)
    batches = Batches(corpus, processor, recipe, device)
    log(
        stage="start",
        recipe=asdict(recipe),
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(tokenizer),
        text_tokens=TEXT_TOKENS,
        device=device.type,
        torch=torch.__version__,
    )
    train_tower(model, head, batches, recipe, log)

    def keep() -> None:
        save_llava(model, processor, out)

    train_jointly(model, head, batches, looks["catalog"], recipe, log, keep)
    keep()
    for domain, held_out in looks.items():
        log(stage="held out", domain=domain, table=evaluate(model, batches, held_out, recipe.seed))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded model from scratch.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--scenes", type=int, default=Recipe.scenes)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered pixels")
    options = parser.parse_args()
    recipe = Recipe(minutes=options.minutes, scenes=options.scenes, seed=options.seed)
    train(recipe, options.out, torch.device(options.device), options.cache)


if __name__ == "__main__":
    main()
