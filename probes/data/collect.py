"""Collects a store: asks an engine every question, reads its signals and labels the answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probes.data.bounded import gather_bounded
from probes.data.datasets.example import Example
from probes.data.images import open_image, read_image
from probes.data.near_duplicates import SIDE, Looks, look
from probes.data.record import Record
from probes.data.store import Arrays, Setup, ShownImage, Store, Writer
from probes.errors import DataError
from probes.labels import judge
from probes.pictures.container import Limits
from probes.readouts import default_layers
from probes.signals.attention import ATTENTION_METRICS, attention_table, measure_attention
from probes.signals.confidence import measure_confidence
from probes.signals.evidence import blank_image
from probes.signals.image_features import IMAGE_FEATURES, image_features
from probes.signals.sampling import CHUNK, Sampler, draw_chunk, image_hash
from probes.types import (
    POSITIONS,
    FloatArray,
    Generation,
    GenerationSettings,
    ImageArray,
    Missing,
    ModelIdentity,
    Query,
    Readout,
)

SHARD_SIZE = 512
IN_FLIGHT = 64
"""Questions given to the engine at once, for it to batch."""


IMAGES_KEPT = 16
"""Decoded images kept for the next questions about them, which mostly follow at once."""


class Engine(Sampler, Protocol):
    """The part of a service engine that collection drives; it must be started."""

    @property
    def identity(self) -> ModelIdentity:
        """The loaded model."""
        ...

    async def generate(self, query: Query, readout: Readout) -> Generation:
        """Answer greedily and read on the way."""
        ...


async def collect(
    examples: Sequence[Example],
    engine: Engine,
    out: Path,
    *,
    generation: GenerationSettings,
    layers: Sequence[int] | None = None,
    image: ShownImage = "real",
    limits: Limits | None = None,
    shard_size: int = SHARD_SIZE,
    in_flight: int = IN_FLIGHT,
    progress: Callable[[int], None] | None = None,
) -> Store:
    """Collect a run into a folder; a run that was cut off resumes where it stopped.

    An example whose image cannot be decoded or is damaged, or whose question the engine refuses, is
    left out, and named in the store with its line and the reason: the service accepts no answer
    about it. Other errors of the engine end the run; finished shards stay.

    Args:
        layers: hidden-state indices to read; :func:`default_layers` if None. All three positions
            and the attention of all decoder layers are read.
        image: ``blank`` asks every question about a grey image of the real one's size, for the
            blank-image control and for training with blank images.
        limits: of an image's file, the service's defaults if None.
        in_flight: questions given to the engine at once, for it to batch.
        progress: called with the number of examples done since the last call.

    Raises StoreError when the folder holds another run, DataError when no example is usable or
    the decoder has fewer layers.
    """
    identity = engine.identity
    read = default_layers(identity.layers) if layers is None else tuple(layers)
    if max(read) > identity.layers:
        raise DataError(f"layers: {max(read)}: the decoder has {identity.layers}")
    readout = Readout(read, POSITIONS, None, tuple(range(1, identity.layers + 1)))
    setup = Setup(
        model=identity,
        generation=generation,
        readouts=tuple((layer, position) for layer in read for position in POSITIONS),
        attention_layers=readout.attention_layers,
        dataset=dataset_hash(examples),
        shard_size=shard_size,
        image=image,
    )
    writer = Writer(out, setup)
    report = progress or (lambda count: None)
    for index, start in enumerate(range(0, len(examples), shard_size)):
        chunk = examples[start : start + shard_size]
        if index < writer.finished_shards:
            report(len(chunk))
            continue
        await _collect_shard(
            chunk, engine, readout, setup, writer, report, in_flight, limits or Limits()
        )
    if not writer.rows:
        first = next(iter(writer.skipped.values()))
        raise DataError(f"none of {len(examples)} examples could be used; the first: {first}")
    return writer.finish()


def dataset_hash(examples: Sequence[Example]) -> str:
    """Return the SHA-256 of the examples in order, with each image's encoded bytes."""
    digest = hashlib.sha256()
    images: dict[Path, str] = {}
    for one in examples:
        path = one.image_path
        if path not in images:
            images[path] = _file_hash(path)
        fields = [one.id, images[path], one.question, one.references, one.kind, one.slice, one.rule]
        if one.group is not None:  # else as it was before there were groups
            fields.append(one.group)
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    """Return an image file's SHA-256, or "" for one that cannot be read."""
    try:
        return hashlib.sha256(read_image(path)).hexdigest()
    except DataError:
        return ""


async def _collect_shard(
    examples: Sequence[Example],
    engine: Engine,
    readout: Readout,
    setup: Setup,
    writer: Writer,
    report: Callable[[int], None],
    in_flight: int,
    limits: Limits,
) -> None:
    @lru_cache(maxsize=IMAGES_KEPT)
    def load(path: Path) -> ImageArray:
        decoded = open_image(path, limits)
        if decoded.damage is not None:
            raise DataError(f"image: {path.name} is damaged ({decoded.damage})")
        return decoded.pixels

    skipped: dict[str, str] = {}

    async def one(example: Example) -> tuple[Record, _Row] | None:
        try:
            image = await asyncio.to_thread(load, example.image_path)
            row = await _ask(example, image, engine, readout, setup)
        except DataError as error:
            skipped[example.id] = f"{example.where}: {error}" if example.where else str(error)
            row = None
        report(1)
        return row

    found = await gather_bounded(examples, one, in_flight)
    rows = [row for row in found if row is not None]
    await asyncio.to_thread(_append, writer, setup, rows, skipped)


def _append(
    writer: Writer, setup: Setup, rows: Sequence[tuple[Record, _Row]], skipped: Mapping[str, str]
) -> None:
    places, width = len(setup.readouts), setup.model.hidden_size
    attention = (2, len(setup.attention_layers), len(ATTENTION_METRICS))
    states = _stacked([row.hidden for _, row in rows], (places, width), np.float16)
    arrays = Arrays(
        present=_stacked([row.present for _, row in rows], (places,), np.bool_),
        attention=_stacked([row.attention for _, row in rows], attention, np.float32),
        attention_present=np.array([row.attention_present for _, row in rows], dtype=bool),
        image_features=_stacked(
            [row.image_features for _, row in rows], (len(IMAGE_FEATURES),), np.float64
        ),
        looks=_stacked([row.look for _, row in rows], (SIDE, SIDE, 3), np.uint8),
    )
    hidden = {
        place: np.ascontiguousarray(states[:, index]) for index, place in enumerate(setup.readouts)
    }
    writer.append([record for record, _ in rows], hidden, arrays, skipped)


def _stacked(rows: Sequence[NDArray[Any]], shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Stack rows, (n, *shape); n may be 0."""
    return np.stack(rows) if rows else np.zeros((0, *shape), dtype=kind)


class _Row:
    """The arrays of one answer."""

    def __init__(
        self, generation: Generation, image: ImageArray, shown: ImageArray, setup: Setup
    ) -> None:
        trace, width = generation.trace, setup.model.hidden_size
        self.hidden: NDArray[np.float16] = np.zeros((len(setup.readouts), width), dtype=np.float16)
        self.present: NDArray[np.bool_] = np.zeros(len(setup.readouts), dtype=bool)
        for index, place in enumerate(setup.readouts):
            vector = trace.readouts.get(place, Missing("not_collected"))
            if isinstance(vector, Missing):
                continue
            with np.errstate(over="ignore"):
                half = vector.astype(np.float16)
            if np.isfinite(half).all():  # else it does not fit into float16, or never was a number
                self.hidden[index], self.present[index] = half, True
        table = attention_table(trace)
        self.attention_present: bool = not isinstance(table, Missing)
        shape = (2, len(setup.attention_layers), len(ATTENTION_METRICS))
        self.attention: FloatArray = (
            np.zeros(shape, dtype=np.float32) if isinstance(table, Missing) else table
        )
        self.image_features: FloatArray = image_features(shown)
        self.look: Looks = look(image)  # of the real one, so that a blank run has its groups


async def _ask(
    example: Example, image: ImageArray, engine: Engine, readout: Readout, setup: Setup
) -> tuple[Record, _Row]:
    shown = image if setup.image == "real" else blank_image(image)
    query = Query(shown, example.question, setup.generation.max_tokens)
    generation = await engine.generate(query, readout)
    planned = setup.generation.samples
    chunks = await asyncio.gather(
        *(
            draw_chunk(engine, query, setup.generation, drawn, planned)
            for drawn in range(0, planned, CHUNK)
        )
    )
    samples = tuple(sample for chunk in chunks for sample in chunk)
    label = judge(generation.answer, example.references, example.rule)
    record = Record(
        id=example.id,
        image_path=str(example.image_path),
        image_hash=image_hash(image),
        question=example.question,
        references=example.references,
        kind=example.kind,
        slice=example.slice,
        rule=example.rule,
        answer=generation.answer,
        parsed=label.parsed,
        wrong=label.wrong,
        finish_reason=generation.finish_reason,
        tokens=len(generation.token_ids),
        confidence=measure_confidence(generation.trace),
        attention=measure_attention(generation.trace),
        samples=samples,
        group=example.group,
    )
    return record, await asyncio.to_thread(_Row, generation, image, shown, setup)
