"""``POST /answer`` of the gate beside ``vllm serve``'s chat completions, over HTTP, in turns.

Both servers run at once, each with its share of the card. The gate's bundle is random where the
model is a mere shape: what it decides means nothing, what it costs is the same.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.host import ROOT
from benchmarks.server import Server, free_port
from benchmarks.shapes import SHAPES, write_shape
from benchmarks.throughput import queries
from probes.model.bundle import Golden
from probes.model.folder import read_bundle, write_bundle
from probes.model.probe import LinearProbe
from probes.types import Query
from service.engines.identity import identify
from service.engines.vllm.prompts import Prompts

SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Serving:
    """What is asked.

    Args:
        shape: of :data:`benchmarks.shapes.SHAPES`.
        requests: per round, at each concurrency.
        tokens: of an answer.
        rounds: in turns.
        memory: share of the card for each server.
        cache_bytes: of keys and values, for each: the same, whatever the other has taken.
        concurrencies: requests at once.
        gate_arguments: more of vLLM's, for the gate alone.
        toy: a trial on a CPU.
    """

    shape: str
    requests: int = 512
    tokens: int = 16
    rounds: int = 3
    memory: float = 0.45
    cache_bytes: int = 18 << 30
    concurrencies: tuple[int, ...] = (64, 256)
    gate_arguments: Mapping[str, Any] = field(default_factory=dict)
    toy: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """More of vLLM's, for both."""
        sized = {"block_size": 32} if self.toy else {"kv_cache_memory_bytes": self.cache_bytes}
        return {"load_format": "dummy", **sized}

    @property
    def dtype(self) -> str:
        return "float32" if self.toy else "bfloat16"

    @property
    def context(self) -> int:
        return 512 if self.toy else 2048


async def serving(found: dict[str, Any], load: Serving, folder: Path) -> None:
    """Measure; ``found`` gets every round, medians and ratios."""
    model = write_shape(load.shape, folder / load.shape, toy=load.toy)
    bundle = random_bundle(load, model, folder / "bundle")
    with ExitStack() as stack:
        servers = []
        for server in (gate(load, model, bundle), chat(load, model)):
            stack.enter_context(server.running(folder))
            servers.append(server)
        begun = time.perf_counter()
        try:
            await asyncio.gather(*(server.ready() for server in servers))
            found["ready_seconds"] = round(time.perf_counter() - begun, 1)
            await measure(found, load, servers)
        finally:
            found["logs"] = {server.name: server.log_end for server in servers}


async def measure(found: dict[str, Any], load: Serving, servers: Sequence[Server]) -> None:
    """Rounds of each server in turns, at each concurrency."""
    names = [server.name for server in servers]
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
    found["rounds"] = rounds
    seed = 70_000
    for concurrency in load.concurrencies:
        here = rounds.setdefault(str(concurrency), {name: [] for name in names})
        for number in range(load.rounds + 1):
            for server in servers if number % 2 else reversed(servers):
                seed += 1
                count = load.requests if number else load.requests // 4  # the first warms up
                asked = queries(seed, count, SHAPES[load.shape], load.tokens)
                told = await ask_all(server, bodies(asked), concurrency, load)
                if number:
                    here[server.name].append(told)
        rates = {name: [r["requests_per_second"] for r in here[name]] for name in names}
        pairs = zip(rates["gate"], rates["vllm"], strict=True)
        found[f"ratios_at_{concurrency}"] = [round(gate / vllm, 4) for gate, vllm in pairs]
        found[f"ratio_at_{concurrency}"] = round(median(rates["gate"]) / median(rates["vllm"]), 4)


async def ask_all(
    server: Server, images: Sequence[str], concurrency: int, load: Serving
) -> dict[str, float]:
    """Requests per second, latencies and processor time of the server's main process of one round.

    Both tell how long a request was in vLLM, on average: the gate as its main process sees it,
    ``vllm serve`` as its engine core does.
    """
    limit = asyncio.Semaphore(concurrency)
    seconds: list[float] = []
    in_vllm: list[float] = []
    characters: list[int] = []
    failed = 0

    async def one(client: httpx.AsyncClient, image: str) -> None:
        nonlocal failed
        question = "is there a dog?"
        if server.name == "gate":
            path, body = "/v1/answer", {
                "question": question, "image": image, "max_tokens": load.tokens,
                "self_consistency": "never",
            }  # fmt: skip
        else:
            content = [
                {"type": "image_url", "image_url": {"url": image}},
                {"type": "text", "text": question},
            ]
            path, body = "/v1/chat/completions", {
                "model": load.shape, "max_tokens": load.tokens, "temperature": 0,
                "messages": [{"role": "user", "content": content}],
            }  # fmt: skip
        async with limit:
            begun = time.perf_counter()
            response = await client.post(f"{server.url}{path}", json=body)
            seconds.append(time.perf_counter() - begun)
        if response.status_code != 200:
            failed += 1
            return
        told = response.json()
        if server.name == "gate":
            in_vllm.append(told["timing"]["generate_seconds"])
            characters.append(len(told["answer"]))
        else:
            characters.append(len(told["choices"][0]["message"]["content"]))

    pool = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(timeout=120, limits=pool) as client:
        before = await engine_seconds(client, server)
        begun, cpu = time.perf_counter(), server.cpu_seconds
        await asyncio.gather(*(one(client, image) for image in images))
        took, cpu = time.perf_counter() - begun, server.cpu_seconds - cpu
        after = await engine_seconds(client, server)
        if after[1] > before[1]:
            in_vllm.append((after[0] - before[0]) / (after[1] - before[1]))
    ranked = np.sort(seconds)
    return {
        "requests_per_second": round(len(images) / took, 2),
        "p50_seconds": round(float(np.quantile(ranked, 0.5)), 4),
        "p99_seconds": round(float(np.quantile(ranked, 0.99)), 4),
        "cpu_milliseconds_per_request": round(1000 * cpu / len(images), 2),
        "failed": failed,
        "mean_characters": round(float(np.mean(characters)), 2) if characters else 0.0,
        **({"seconds_in_vllm": round(float(np.mean(in_vllm)), 4)} if in_vllm else {}),
    }


async def engine_seconds(client: httpx.AsyncClient, server: Server) -> tuple[float, int]:
    """Seconds that all requests so far were in vLLM's engine core, and how many those were.

    Nothing of the gate's, which tells it with each answer.
    """
    text = (await client.get(f"{server.url}/metrics")).text
    told: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told[sample.name] += sample.value
    name = "vllm:request_{}_time_seconds_{}".format
    seconds = sum(told[name(stage, "sum")] for stage in ("queue", "prefill", "decode"))
    return seconds, int(told[name("queue", "count")])


def bodies(asked: Sequence[Query]) -> list[str]:
    """The images as data URIs, JPEG."""
    found = []
    for query in asked:
        stored = io.BytesIO()
        Image.fromarray(query.image).save(stored, "JPEG", quality=90)
        found.append("data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode())
    return found


def random_bundle(load: Serving, model: Path, folder: Path) -> Path:
    """A bundle that fits the model: the embedded one's risk behind a random probe.

    The probe's numbers are so small that every readout is about nothing, and so are the golden ones
    that the gate's self-test expects. No engine is needed to make them.
    """
    shape = SHAPES[load.shape]
    layer = 4 if load.toy else shape.layers[1]
    base = read_bundle(ROOT / "testbed" / "bundles" / "llava")
    prompts = Prompts(str(model))
    identity = identify(
        str(model), prompts.config, prompts.processor,
        dtype=load.dtype, family=prompts.family.name, engine="vllm",
    )  # fmt: skip
    numbers = np.random.default_rng(0)
    hidden = identity.hidden_size
    probe = LinearProbe(
        layer=layer,
        position=base.probe.position,
        weights=SMALL * numbers.normal(size=hidden),
        intercept=0.0,
        mean=np.zeros(hidden),
        scale=np.ones(hidden),
        components=SMALL * numbers.normal(size=(len(base.probe.components), hidden)),
    )
    nothing = {(layer, probe.position): np.zeros(1 + len(probe.components))}
    write_bundle(
        replace(
            base,
            model=identity,
            probe=probe,
            attention_layers=(layer,),
            alpha=None,
            attempts=(),
            golden=tuple(
                Golden(query, "unknown", nothing) for query in queries(1, 2, shape, load.tokens)
            ),
        ),
        folder,
    )
    return folder


def gate(load: Serving, model: Path, bundle: Path) -> Server:
    """``vlm-gate serve`` on vLLM."""
    port = free_port()
    settings = {
        "ENGINE": "vllm", "MODEL": str(model), "BUNDLE": str(bundle), "PORT": str(port),
        "RECORDS_URL": "", "MAX_INFLIGHT": "512", "MAX_QUEUE": "4096", "DEADLINE_SECONDS": "120",
        "VLLM_GPU_MEMORY_UTILIZATION": str(load.memory), "VLLM_MAX_MODEL_LEN": str(load.context),
        "VLLM_ENFORCE_EAGER": str(load.toy).lower(), "DECODE_PROCESSES": "2" if load.toy else "8",
        "STATE_FOLDER": str(bundle.parent),
        "VLLM_ARGUMENTS": json.dumps({**load.arguments, **load.gate_arguments}),
    }  # fmt: skip
    return Server(
        "gate",
        f"http://127.0.0.1:{port}",
        "/readyz",
        (sys.executable, "-m", "service.cli", "serve"),
        {f"VLM_GATE_{name}": text for name, text in settings.items()},
    )


def chat(load: Serving, model: Path) -> Server:
    """``vllm serve``."""
    port = free_port()
    command = (
        sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model),
        "--served-model-name", load.shape, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", load.dtype, "--max-model-len", str(load.context),
        "--gpu-memory-utilization", str(load.memory),
        "--limit-mm-per-prompt", '{"image": 1}', "--disable-uvicorn-access-log",
        *(f"--{name.replace('_', '-')}={value}" for name, value in load.arguments.items()),
        *(("--enforce-eager",) if load.toy else ()),
    )  # fmt: skip
    return Server("vllm", f"http://127.0.0.1:{port}", "/health", command)
