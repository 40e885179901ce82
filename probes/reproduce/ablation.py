"""Does the model need the neurons that the probe reads? They are held still while it answers.

The neurons of the probe's layer with the largest weights (on standardised states), against as many
drawn at random; each held at every token at zero, or at its mean over the fit split at the probe's
position (which may be far from its mean at the image's tokens).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from probes.data.bounded import gather_bounded
from probes.data.record import Record
from probes.data.shards import Column, Row, fill
from probes.data.store import Store
from probes.labels import judge
from probes.model.probe import LinearProbe
from probes.reproduce.measurements import image_reader
from probes.types import NOTHING, Generation, Query, Readout

Held = Literal["zero", "mean"]
HELD: tuple[Held, ...] = get_args(Held)
FEW = 5
"""Neurons ablated in the papers."""
DRAWS = 5
"""Sets of random neurons."""
SHARD_SIZE = 256


@runtime_checkable
class Ablatable(Protocol):
    """An engine that can hold neurons still."""

    def ablated(
        self, layer: int, neurons: Sequence[int], values: Sequence[float]
    ) -> AbstractContextManager[None]:
        """Answer everything with these neurons held at these values, while the body runs."""
        ...

    async def generate(self, query: Query, readout: Readout) -> Generation:
        """Answer greedily."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """One set of neurons and what they are held at.

    Args:
        chosen: ``top`` by the probe's weight, or ``random``.
        draw: number of the random set; 0 for top.
    """

    chosen: Literal["top", "random"]
    draw: int
    held: Held
    neurons: tuple[int, ...]


def conditions(probe: LinearProbe, draws: int = DRAWS, seed: int = 0) -> tuple[Condition, ...]:
    """Build all conditions: few neurons or half of the layer, top or random, at zero or the mean.

    Random sets are drawn from the whole layer, a fresh generator per size and draw.
    """
    width = len(probe.weights)
    ranked = np.argsort(-np.abs(probe.weights), kind="stable")
    found = []
    for count in sorted({min(FEW, width), max(1, width // 2)}):
        sets = [("top", 0, ranked[:count])]
        for draw in range(draws):
            rng = np.random.default_rng([seed, count, draw])
            sets.append(("random", draw, rng.choice(width, size=count, replace=False)))
        for chosen, draw, neurons in sets:
            ids = tuple(sorted(int(one) for one in neurons))
            found += [Condition(chosen, draw, held, ids) for held in HELD]  # type: ignore[arg-type]
    return tuple(found)


async def ablate_all(
    store: Store,
    rows: Sequence[int],
    engine: Ablatable,
    probe: LinearProbe,
    folder: Path,
    *,
    tried: Sequence[Condition],
    in_flight: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Column]:
    """Ask again under each condition: column ``wrong``, (n, conditions)."""

    load = image_reader()

    async def part(records: Sequence[Record]) -> Sequence[Row]:
        queries = []
        for record in records:
            image = await asyncio.to_thread(load, record)
            queries.append(Query(image, record.question, store.setup.generation.max_tokens))
        table = []
        for condition in tried:
            values = [0.0] * len(condition.neurons)
            if condition.held == "mean":
                values = [float(probe.mean[neuron]) for neuron in condition.neurons]
            with engine.ablated(probe.layer, condition.neurons, values):
                answers = await gather_bounded(
                    queries, lambda q: engine.generate(q, NOTHING), in_flight
                )
            table.append(
                [
                    judge(answer.answer, record.references, record.rule).wrong
                    for answer, record in zip(answers, records, strict=True)
                ]
            )
        return [{"wrong": row} for row in np.array(table).T]

    return await fill(
        folder,
        {
            "store": store.fingerprint,
            "rows": len(rows),
            "layer": probe.layer,
            "conditions": [{**asdict(one), "neurons": list(one.neurons)} for one in tried],
        },
        [store.records[row] for row in rows],
        part,
        shard_size=SHARD_SIZE,
        progress=progress,
    )
