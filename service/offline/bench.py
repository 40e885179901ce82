"""How fast it answers, over HTTP, and what the signals cost the engine."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from probes.model.folder import read_bundle
from probes.types import NOTHING, Query, Readout
from service.engines.base import Engine
from service.engines.build import serving_engine
from service.offline.own_service import local_service
from service.settings import load_settings
from testbed.drawing import render
from testbed.questions import ask
from testbed.scenes import make_scene

FIRST_SEED = 300_000
IMAGES = 64
ROUNDS = 30
PER_ROUND = 32
CONCURRENCIES = (1, 16)


@dataclass(frozen=True)
class Load:
    """What one load over HTTP gave; seconds."""

    concurrency: int
    answers: int
    answers_per_second: float
    p50_seconds: float
    p99_seconds: float


@dataclass(frozen=True)
class SignalCost:
    """The engine's seconds per answer without and with the bundle's readout, and their ratio."""

    plain_seconds: float
    read_seconds: float
    ratio: float


def queries() -> list[Query]:
    """Line images, one question each."""
    scenes = [make_scene(seed, "line") for seed in range(FIRST_SEED, FIRST_SEED + IMAGES)]
    rng = np.random.default_rng(0)
    return [Query(render(scene), ask(scene, rng, n=1)[0].text) for scene in scenes]


async def load_http(
    url: str, asked: Sequence[tuple[bytes, str]], concurrency: int, answers: int
) -> Load:
    """Keep ``concurrency`` requests in flight until ``answers`` came back."""
    seconds: list[float] = []
    numbers = iter(range(answers))

    async def line(client: httpx.AsyncClient) -> None:
        for number in numbers:
            image, question = asked[number % len(asked)]
            begun = time.perf_counter()
            response = await client.post(
                "/v1/answer", data={"question": question}, files={"image": ("i.png", image)}
            )
            response.raise_for_status()
            seconds.append(time.perf_counter() - begun)

    async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(line(client) for _ in range(concurrency)))
        spent = time.perf_counter() - begun
    p50, p99 = np.percentile(seconds, [50, 99])
    return Load(concurrency, answers, answers / spent, float(p50), float(p99))


async def signal_cost(engine: Engine, asked: Sequence[Query], readout: Readout) -> SignalCost:
    """The same questions with and without the readout, in turns; the fastest round of each.

    What else runs on the machine only adds time, so the fastest rounds say what the work costs.
    """

    async def once(what: Readout) -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(engine.generate(query, what) for query in asked))
        return (time.perf_counter() - begun) / len(asked)

    await once(readout)
    pairs = []
    for number in range(ROUNDS):
        if number % 2:
            read, plain = await once(readout), await once(NOTHING)
        else:
            plain, read = await once(NOTHING), await once(readout)
        pairs.append((plain, read))
    table = np.array(pairs)
    plain_seconds, read_seconds = (float(fastest) for fastest in table.min(axis=0))
    return SignalCost(plain_seconds, read_seconds, read_seconds / plain_seconds)


async def _cost_in_process(asked: Sequence[Query]) -> SignalCost:
    settings = load_settings()
    bundle = read_bundle(settings.bundle)
    engine = serving_engine(settings, bundle)
    await engine.start()
    try:
        return await signal_cost(engine, asked[:PER_ROUND], bundle.readout)
    finally:
        await engine.close()


def run_bench(answers: int) -> tuple[tuple[Load, ...], SignalCost]:
    """Measure a service of our own over HTTP, then the engine with and without signals."""
    asked = queries()
    files = []
    for query in asked:
        stored = io.BytesIO()
        Image.fromarray(query.image).save(stored, "PNG", compress_level=1)
        files.append((stored.getvalue(), query.question))
    with local_service() as url:
        asyncio.run(load_http(url, files, 4, 32))  # warm up
        loads = tuple(
            asyncio.run(load_http(url, files, concurrency, answers))
            for concurrency in CONCURRENCIES
        )
    return loads, asyncio.run(_cost_in_process(asked))


def print_bench(loads: Sequence[Load], cost: SignalCost) -> None:
    """A table for people."""
    console = Console()
    table = Table(title="POST /v1/answer over HTTP")
    for column in ("concurrency", "answers", "answers/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for load in loads:
        table.add_row(
            str(load.concurrency),
            str(load.answers),
            f"{load.answers_per_second:.1f}",
            f"{load.p50_seconds * 1000:.1f}",
            f"{load.p99_seconds * 1000:.1f}",
        )
    console.print(table)
    console.print(
        f"engine alone: {cost.plain_seconds * 1000:.2f} ms an answer without signals, "
        f"{cost.read_seconds * 1000:.2f} ms with; signals cost {cost.ratio - 1:+.1%}",
        highlight=False,
    )
