"""A synthetic engine whose truth is known, and one run of the whole offline path over it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probes.data.collect import collect
from probes.data.datasets import load_dataset
from probes.data.datasets.example import Example
from probes.data.store import Arrays, Store, Writer
from probes.fit.train import train
from probes.guarantee.certify import certify
from probes.model.bundle import Bundle
from probes.signals.sampling import image_hash
from probes.types import (
    AttentionMaps,
    FloatArray,
    Generation,
    GenerationSettings,
    Missing,
    ModelIdentity,
    Query,
    Readout,
    Trace,
)

HIDDEN = 4
LAYERS = 2
GRID = (4, 4)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = ModelIdentity(
    name="synthetic",
    revision="r1",
    family="synthetic",
    layers=LAYERS,
    hidden_size=HIDDEN,
    dtype="float32",
    engine="synthetic",
    processor_hash="p1",
    chat_template_hash="t1",
)


class SyntheticEngine:
    """Answers "yes" to everything; each question has a true probability that this is wrong.

    The hidden state at layer 2 holds the true log-odds plus noise, layer 1 noise alone, the token
    log-probability a weaker copy, and attention nothing.
    """

    identity = IDENTITY

    def __init__(self) -> None:
        self.calls = 0

    def _rng(self, query: Query, salt: str) -> np.random.Generator:
        key = f"{image_hash(query.image)}:{query.question}:{salt}".encode()
        return np.random.default_rng(list(key))

    def true_logit(self, query: Query) -> float:
        """Log-odds that "yes" is wrong: about one in four, very unequal."""
        return float(self._rng(query, "truth").normal(-3.0, 3.5))

    def truly_wrong(self, query: Query) -> bool:
        """The coin that decides the reference answer."""
        chance = 1 / (1 + np.exp(-self.true_logit(query)))
        return bool(self._rng(query, "coin").random() < chance)

    async def generate(self, query: Query, readout: Readout) -> Generation:
        self.calls += 1
        rng = self._rng(query, "noise")
        logit = self.true_logit(query)
        readouts: dict[tuple[int, object], FloatArray | Missing] = {}
        for layer in (1, 2):
            for position in ("prompt_last", "answer_mean", "answer_last"):
                state = rng.normal(size=HIDDEN).astype(np.float32) + 2
                if layer == 2:
                    state[1] = logit + 0.3 * state[1]
                state = state.astype(np.float16).astype(np.float32)  # as a store keeps it
                if layer in readout.layers and position in readout.positions:
                    matrix = (readout.projections or {}).get(layer)
                    readouts[layer, position] = (
                        state if matrix is None else state.astype(np.float64) @ matrix
                    )
        weaker = -np.log1p(np.exp(0.4 * logit + rng.normal()))
        rows = rng.dirichlet(np.ones(17), size=(2, LAYERS))[:, :, :16]
        layers = readout.attention_layers
        chosen = [layer - 1 for layer in layers]
        trace = Trace(
            logprobs=np.array([weaker, weaker / 2]),
            first_token_entropy=float(rng.gamma(1.0)),
            first_token_margin=float(-logit + rng.normal()),
            readouts=readouts,  # type: ignore[arg-type]
            attention=AttentionMaps(layers, rows[0][chosen], rows[1][chosen], GRID),
        )
        return Generation("yes", (7, 8), "stop", trace)

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        chance = 1 / (1 + np.exp(-self.true_logit(query) / 2))
        rng = np.random.default_rng(seed)
        return tuple("no" if rng.random() < chance else "yes" for _ in range(count))


def write_dataset(folder: Path, images: int, questions: int, seed: int = 0) -> Path:
    """Images of noise around a random brightness, and a JSON-lines file of labelled questions."""
    engine, rng = SyntheticEngine(), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for index in range(images):
        level = rng.integers(80, 170)
        noise = rng.integers(0, rng.integers(10, 60), size=(16, 16, 3))
        image = (level + noise).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{index}.png")
        for number in range(questions):
            question = f"Is number {number} there?"
            wrong = engine.truly_wrong(Query(image, question))
            record = {
                "id": f"{index}-{number}",
                "image": f"{index}.png",
                "question": question,
                "references": ["no" if wrong else "yes"],
                "rule": "yes_no",
                "kind": ("presence", "defect")[number % 2],
                "slice": "synthetic",
            }
            lines.append(json.dumps(record))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def examples_of(path: Path) -> tuple[Example, ...]:
    examples, problems = load_dataset(path)
    assert problems == ()
    return examples


SETTINGS = GenerationSettings(max_tokens=8, samples=6)
SHARES: Mapping[str, float] = {"fit": 0.15, "select": 0.27, "calibrate": 0.4, "test": 0.18}


@dataclass(frozen=True)
class Run:
    """The folders of one pass of the offline path, and what is in them."""

    root: Path
    dataset: Path
    store: Store
    trained: Bundle
    certified: Bundle


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """collect -> train -> certify, once per session; tests must not write into its folders."""
    root = tmp_path_factory.mktemp("run")
    dataset = write_dataset(root / "data", images=280, questions=3)
    store = asyncio.run(
        collect(examples_of(dataset), SyntheticEngine(), root / "store", generation=SETTINGS)
    )
    trained = train(store, root / "trained", shares=SHARES)  # type: ignore[arg-type]
    certified = certify(store, trained, root / "certified", created=CREATED, alpha=0.10)
    return Run(root, dataset, store, trained, certified)


@pytest.fixture(scope="session")
def seed_1(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that was trained on the same run with another seed."""
    out = tmp_path_factory.mktemp("seed") / "trained"
    train(run.store, out, seed=1, shares=SHARES)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="session")
def synthetic() -> type[SyntheticEngine]:
    """The engine's class, for tests that need one of their own."""
    return SyntheticEngine


def relabelled_store(
    store: Store,
    out: Path,
    wrong: np.ndarray,
    signal: np.ndarray | None = None,
    answers: Sequence[str] | None = None,
    **setup: Any,
) -> Store:
    """The store with other labels and, if given, answers, and states of this signal and noise."""
    rng = np.random.default_rng(5)
    records = [
        replace(
            record,
            wrong=bool(one),
            references=("no" if one else "yes",),
            answer=record.answer if answers is None else answers[row],
        )
        for row, (record, one) in enumerate(zip(store.records, wrong, strict=True))
    ]
    hidden = {}
    for place in store.setup.readouts:
        states = store.hidden(place)
        if signal is not None:
            states = rng.normal(size=states.shape).astype(np.float16)
            states[:, 1] += signal.astype(np.float16)
        hidden[place] = states
    writer = Writer(out, replace(store.setup, **setup))
    arrays: Arrays = store.arrays
    writer.append(records, hidden, arrays, {})
    return writer.finish()


@pytest.fixture(scope="session")
def relabelled() -> Callable[..., Store]:
    """Writes a store with other labels and states."""
    return relabelled_store
