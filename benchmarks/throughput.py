"""Plain vLLM beside the gate's engine, in turns on the same card: requests/s and time per token."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.shapes import SHAPES, Shape, write_shape
from benchmarks.step_profile import profile, profiler
from benchmarks.token_time import Clock, time_per_token
from probes.types import POSITIONS, Query, Readout
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm.options import VllmOptions, engine_arguments
from service.engines.vllm.prompts import Prompts
from service.engines.vllm.start import load

COLUMNS = 9
"""Of each layer's projection: a probe and eight directions of the domain."""
TOKENS = 128
"""Of an answer, for the time per token."""
TOKEN_ROUNDS = 9
Ask = Callable[[Query], Awaitable[int]]
"""Answers a query; returns the number of tokens."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, how often.

    Args:
        shape: of :data:`benchmarks.shapes.SHAPES`.
        requests: at once, for the throughput.
        tokens: of an answer.
        rounds: of each way of asking, in turns.
        memory: share of the card for each of the two engines.
        cache_bytes: of keys and values, for each: the same, whatever the other has taken.
        tensor_parallel_size: GPUs of each.
        profile: also profile the decode steps of 8 answers.
        toy: a trial on a CPU.
    """

    shape: str
    requests: int = 256
    tokens: int = 16
    rounds: int = 3
    memory: float = 0.45
    cache_bytes: int = 18 << 30
    tensor_parallel_size: int = 1
    profile: bool = False
    toy: bool = False


class Plain:
    """vLLM as it is, without the plugin's wishes, fed as the gate feeds it."""

    def __init__(self, folder: Path, options: VllmOptions, dtype: str) -> None:
        self._prompts = Prompts(str(folder))
        arguments = engine_arguments(str(folder), dtype, options, (), (), self._prompts.loading)
        for ours in ("additional_config", "worker_extension_cls"):
            del arguments[ours]
        self.llm: Any = load(arguments)

    async def ask(self, query: Query) -> int:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=query.max_tokens,
            stop_token_ids=sorted(self._prompts.ends),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = await asyncio.to_thread(self._prompts.prompt, query)
        [rendered] = await self.llm.renderer.render_cmpl_async([prompt])
        last = None
        async for output in self.llm.generate(rendered, sampling, uuid.uuid4().hex):
            last = output
        assert last is not None
        return len(last.outputs[0].token_ids)

    def close(self) -> None:
        self.llm.shutdown()


async def throughput(found: dict[str, Any], load: Load, folder: Path) -> None:
    """Measure; ``found`` gets medians, ratios and every round."""
    shape = SHAPES[load.shape]
    write_shape(load.shape, folder, toy=load.toy)
    profiles = folder.parent / "profiles"
    options, dtype = _options(load, profiler(profiles) if load.profile else {})
    layers = (1, 2, 3, 4) if load.toy else shape.layers
    attention_layers = (2, 3) if load.toy else shape.attention_layers
    gate = VllmEngine(
        str(folder), dtype=dtype, options=options,
        layers=layers, attention_layers=attention_layers, queue_size=4096,
    )  # fmt: skip
    begun = time.perf_counter()
    plain, _ = await asyncio.gather(asyncio.to_thread(Plain, folder, options, dtype), gate.start())
    found["start_seconds"] = round(time.perf_counter() - begun, 1)
    try:
        clocks = [Clock(plain.llm), Clock(gate._llm)]
        found["attention_missing"] = gate.attention_missing
        found["attention_deviation"] = gate.attention_deviation
        ways = _ways(plain, gate, layers, attention_layers)
        await _throughput(found, ways, load, shape)
        long = 16 if load.toy else TOKENS
        await time_per_token(
            found, ways, clocks, lambda seed: queries(seed, 8, shape, long), TOKEN_ROUNDS
        )
        if load.profile:
            llms = {"plain": plain.llm, "readouts": gate._llm, "attention": gate._llm}
            asked = {way: (ask, llms[way], profiles) for way, ask in ways.items()}
            await profile(found, asked, lambda seed: queries(seed, 8, shape, TOKENS))
        found["plugin"] = (await gate._call("vlm_gate_status"))[0]
    finally:
        await gate.close()
        plain.close()


def _options(load: Load, more: Mapping[str, Any]) -> tuple[VllmOptions, str]:
    toy = load.toy
    options = VllmOptions(
        tensor_parallel_size=load.tensor_parallel_size,
        gpu_memory_utilization=load.memory,
        max_model_len=512 if toy else 2048,
        max_num_seqs=16 if toy else 256,
        enforce_eager=toy,
        # The statistics hold the times of an answer's first and last token.
        arguments={
            "load_format": "dummy",
            "disable_log_stats": False,
            **({"block_size": 32} if toy else {"kv_cache_memory_bytes": load.cache_bytes}),
            **more,
        },
    )
    return options, "float32" if toy else "bfloat16"


def _ways(
    plain: Plain, gate: VllmEngine, layers: tuple[int, ...], attention_layers: tuple[int, ...]
) -> dict[str, Ask]:
    hidden = gate.identity.hidden_size
    numbers = np.random.default_rng(0)
    matrices = {k: numbers.normal(size=(hidden, COLUMNS)).astype(np.float32) for k in layers}
    readouts = Readout(layers, POSITIONS, matrices)
    both = Readout(layers, POSITIONS, matrices, attention_layers)

    def reading(readout: Readout) -> Ask:
        async def ask(query: Query) -> int:
            return len((await gate.generate(query, readout)).token_ids)

        return ask

    return {"plain": plain.ask, "readouts": reading(readouts), "attention": reading(both)}


def queries(seed: int, count: int, shape: Shape, tokens: int) -> list[Query]:
    """Questions about images that were never asked about before."""
    numbers = np.random.default_rng(seed)
    return [
        Query(
            numbers.integers(0, 256, (shape.pixels, shape.pixels, 3), np.uint8),
            "is there a dog?",
            tokens,
        )
        for _ in range(count)
    ]


async def timed(ask: Ask, asked: Sequence[Query]) -> tuple[float, int]:
    """Seconds for all at once, and tokens in all."""
    begun = time.perf_counter()
    tokens = await asyncio.gather(*(ask(query) for query in asked))
    return time.perf_counter() - begun, sum(tokens)


async def _throughput(
    found: dict[str, Any], ways: dict[str, Ask], load: Load, shape: Shape
) -> None:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    found["requests_per_second"] = rates
    names = list(ways)
    for place, way in enumerate(names):  # everything compiled, the allocator filled
        await timed(ways[way], queries(place, load.requests // 4, shape, load.tokens))
    for number in range(load.rounds):
        for place in range(len(names)):
            way = names[(place + number) % len(names)]
            asked = queries(10_000 + 100 * number + place, load.requests, shape, load.tokens)
            seconds, _ = await timed(ways[way], asked)
            rates[way].append(round(len(asked) / seconds, 2))
    found["throughput_ratio"] = {
        way: round(median(rates[way]) / median(rates["plain"]), 4) for way in names
    }
    found["throughput_ratio_by_round"] = {
        way: [round(a / b, 4) for a, b in zip(rates[way], rates["plain"], strict=True)]
        for way in names
    }
