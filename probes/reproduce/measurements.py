"""Measures what only the comparison with the papers needs, on the test split.

Per answer, from one generation: concentration of the attention averaged over layers, and head by
head; prompt-side attention; the logit lens. Then the question is asked again with the image masked
in four ways: what the answer's log-probability loses, and whether the new answer is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from probes.data.bounded import gather_bounded
from probes.data.images import load_image
from probes.data.record import Record
from probes.data.shards import Column, Row, fill
from probes.data.store import Store
from probes.errors import StoreError
from probes.labels import judge
from probes.signals.attention import attention_table, head_table
from probes.signals.evidence import MASKINGS, mask_image
from probes.signals.margin import measure_margins
from probes.signals.prompt_side import prompt_side
from probes.signals.sampling import image_hash
from probes.types import (
    NOTHING,
    AnswerScore,
    FloatArray,
    Generation,
    ImageArray,
    Missing,
    Query,
    Readout,
    Trace,
)

SHARD_SIZE = 512
IMAGES_KEPT = 64


class Engine(Protocol):
    """The part of a service engine that these measurements drive; it must be started."""

    async def generate(self, query: Query, readout: Readout) -> Generation:
        """Answer greedily and read on the way."""
        ...

    async def score(self, query: Query, token_ids: Sequence[int]) -> AnswerScore:
        """Log-probability of a given answer."""
        ...

    def patch_boxes(
        self, image_size: tuple[int, int], grid: tuple[int, int]
    ) -> FloatArray | Missing:
        """Which pixels each image token stands for."""
        ...


async def measure_all(
    store: Store,
    rows: Sequence[int],
    engine: Engine,
    folder: Path,
    *,
    in_flight: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Column]:
    """Measure these answers of a store, resumably; every column has one place per row."""
    layers = tuple(range(1, store.setup.model.layers + 1))
    readout = Readout(layers, (), None, layers, heads=True, question=True, lens=True)

    load = image_reader()

    async def one(record: Record) -> Row:
        image = await asyncio.to_thread(load, record)
        query = Query(image, record.question, store.setup.generation.max_tokens)
        generation = await engine.generate(query, readout)
        read = await asyncio.to_thread(_read, generation, record)
        return {**read, **await _masked(query, generation, record, engine)}

    async def part(records: Sequence[Record]) -> Sequence[Row]:
        return await gather_bounded(records, one, in_flight)

    return await fill(
        folder,
        {"store": store.fingerprint, "rows": len(rows), "maskings": list(MASKINGS)},
        [store.records[row] for row in rows],
        part,
        shard_size=SHARD_SIZE,
        progress=progress,
    )


def image_reader() -> Callable[[Record], ImageArray]:
    """Reads records' images; questions about one image stand together, so a few are kept.

    It raises StoreError for an image that was changed since it was collected.
    """

    @lru_cache(maxsize=IMAGES_KEPT)
    def read(path: str, digest: str) -> ImageArray:
        image = load_image(Path(path))
        if image_hash(image) != digest:
            raise StoreError(f"{path}: changed since it was collected; collect again")
        return image

    return lambda record: read(record.image_path, record.image_hash)


def _read(generation: Generation, record: Record) -> Row:
    label = judge(generation.answer, record.references, record.rule)
    trace = generation.trace
    margins = measure_margins(trace, label.parsed)
    return {
        "wrong": np.array(label.wrong),
        "attention": attention_table(_over_layers(trace)),
        "margins": margins if isinstance(margins, Missing) else margins.astype(np.float32),
        "prompt_side": _prompt_side(trace),
        "heads": head_table(trace.heads),
    }


def _over_layers(trace: Trace) -> Trace:
    """Average the attention over layers, as the service shows it."""
    maps = trace.attention
    if isinstance(maps, Missing) or isinstance(maps.answer_mean, Missing):
        return trace
    mean = replace(
        maps,
        layers=(0,),
        prompt_last=maps.prompt_last.mean(axis=0, keepdims=True),
        answer_mean=maps.answer_mean.mean(axis=0, keepdims=True),
    )
    return replace(trace, attention=mean)


def _prompt_side(trace: Trace) -> FloatArray | Missing:
    """Peak and peak mass of every layer, (layers, 2)."""
    maps = trace.question
    if isinstance(maps, Missing):
        return maps
    table = np.empty((len(maps.layers), 2), dtype=np.float32)
    for at, (content, boundary) in enumerate(zip(maps.content, maps.boundary, strict=True)):
        found = prompt_side(content, boundary, maps.grid)
        if isinstance(found, Missing):
            return found
        table[at] = found.peak, found.peak_mass
    return table


@dataclass(frozen=True, slots=True)
class _Again:
    """The question asked again with a part of the image away."""

    drop: float
    flipped: bool
    wrong: bool


async def _masked(query: Query, generation: Generation, record: Record, engine: Engine) -> Row:
    images = await asyncio.to_thread(
        mask_image, query.image, generation.trace, engine.patch_boxes, MASKINGS
    )
    if isinstance(images, Missing):
        return dict.fromkeys(("drops", "flipped", "masked_wrong"), images)
    found = await asyncio.gather(
        *(
            _again(replace(query, image=images[masking]), generation, record, engine)
            for masking in MASKINGS
        )
    )
    return {
        "drops": np.array([one.drop for one in found], dtype=np.float32),
        "flipped": np.array([one.flipped for one in found]),
        "masked_wrong": np.array([one.wrong for one in found]),
    }


async def _again(query: Query, first: Generation, record: Record, engine: Engine) -> _Again:
    """Ask again. Only an answer that changed needs scoring: decoding scored an equal one."""
    second = await engine.generate(query, NOTHING)
    flipped = second.token_ids != first.token_ids
    if flipped:
        logprob = (await engine.score(query, first.token_ids)).logprob
    else:
        logprob = float(second.trace.logprobs.sum())
    return _Again(
        drop=float(first.trace.logprobs.sum()) - logprob,
        flipped=flipped,
        wrong=judge(second.answer, record.references, record.rule).wrong,
    )
