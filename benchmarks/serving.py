"""``POST /answer`` of the gate beside ``vllm serve``'s chat completions, over HTTP, in turns.

Both servers run at once, each with its share of the card. The gate's bundle is random where the
model is a mere shape: what it decides means nothing, what it costs is the same.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.host import ROOT
from benchmarks.shapes import SHAPES, write_shape
from benchmarks.throughput import queries
from probes.bundle import Bundle, Golden
from probes.probe import LinearProbe
from probes.types import Missing, Query
from service.engines.vllm import VllmEngine
from service.engines.vllm_options import VllmOptions

START_SECONDS = 420.0
CONCURRENCIES = (64, 256)


@dataclass(frozen=True, slots=True)
class Serving:
    """What is asked.

    Args:
        shape: of :data:`benchmarks.shapes.SHAPES`.
        requests: per round, at each concurrency.
        tokens: of an answer.
        rounds: in turns.
        memory: share of the card for each server.
        toy: a trial on a CPU.
    """

    shape: str
    requests: int = 512
    tokens: int = 16
    rounds: int = 3
    memory: float = 0.45
    toy: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """More of vLLM's, for both."""
        return {"load_format": "dummy", **({"block_size": 32} if self.toy else {})}

    @property
    def dtype(self) -> str:
        return "float32" if self.toy else "bfloat16"

    @property
    def context(self) -> int:
        return 512 if self.toy else 2048


async def serving(found: dict[str, Any], load: Serving, folder: Path) -> None:
    """Measure; ``found`` gets every round, medians and ratios."""
    model = write_shape(load.shape, folder / load.shape, toy=load.toy)
    bundle = await random_bundle(load, model, folder / "bundle")
    url = f"http://127.0.0.1:{free_port()}"
    with gate(load, model, bundle, url) as gate_log, chat(load, model) as (chat_url, chat_log):
        try:
            for name, address, path in (("gate", url, "/readyz"), ("vllm", chat_url, "/health")):
                begun = time.perf_counter()
                await ready(f"{address}{path}")
                found[f"{name}_ready_seconds"] = round(time.perf_counter() - begun, 1)
            await measure(found, load, {"gate": url, "vllm": chat_url})
        finally:
            found["logs"] = {
                name: log.read_text(errors="replace")[-1500:]
                for name, log in (("gate", gate_log), ("vllm", chat_log))
            }


async def measure(found: dict[str, Any], load: Serving, urls: dict[str, str]) -> None:
    """Rounds of each server in turns, at each concurrency."""
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
    found["rounds"] = rounds
    seed = 70_000
    for concurrency in (4, 16) if load.toy else CONCURRENCIES:
        here = rounds.setdefault(str(concurrency), {name: [] for name in urls})
        for number in range(load.rounds + 1):
            for name in sorted(urls, reverse=bool(number % 2)):
                seed += 1
                asked = queries(seed, load.requests, SHAPES[load.shape], load.tokens)
                told = await ask_all(name, urls[name], load.shape, bodies(asked), concurrency, load)
                if number:  # the first round warms up
                    here[name].append(told)
        rate = {name: median(r["requests_per_second"] for r in here[name]) for name in urls}
        found[f"ratio_at_{concurrency}"] = round(rate["gate"] / rate["vllm"], 4)


async def ask_all(
    name: str, url: str, model: str, images: Sequence[str], concurrency: int, load: Serving
) -> dict[str, float]:
    """Requests per second and latencies of one round."""
    limit = asyncio.Semaphore(concurrency)
    seconds: list[float] = []
    failed = 0

    async def one(client: httpx.AsyncClient, image: str) -> None:
        nonlocal failed
        question = "is there a dog?"
        if name == "gate":
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
                "model": model, "max_tokens": load.tokens, "temperature": 0,
                "messages": [{"role": "user", "content": content}],
            }  # fmt: skip
        async with limit:
            begun = time.perf_counter()
            response = await client.post(f"{url}{path}", json=body)
            seconds.append(time.perf_counter() - begun)
            failed += response.status_code != 200

    pool = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(timeout=120, limits=pool) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(one(client, image) for image in images))
        took = time.perf_counter() - begun
    ranked = np.sort(seconds)
    return {
        "requests_per_second": round(len(images) / took, 2),
        "p50_seconds": round(float(np.quantile(ranked, 0.5)), 4),
        "p99_seconds": round(float(np.quantile(ranked, 0.99)), 4),
        "failed": failed,
    }


def bodies(asked: Sequence[Query]) -> list[str]:
    """The images as data URIs, JPEG."""
    found = []
    for query in asked:
        stored = io.BytesIO()
        Image.fromarray(query.image).save(stored, "JPEG", quality=90)
        found.append("data:image/jpeg;base64," + base64.b64encode(stored.getvalue()).decode())
    return found


async def random_bundle(load: Serving, model: Path, folder: Path) -> Path:
    """A bundle that fits the model: the embedded one's risk behind a random probe."""
    shape = SHAPES[load.shape]
    layer = 4 if load.toy else shape.layers[1]
    engine = VllmEngine(
        str(model), dtype=load.dtype, layers=(layer,), attention_layers=(layer,),
        options=VllmOptions(
            gpu_memory_utilization=load.memory, max_model_len=load.context, enforce_eager=True,
            max_num_seqs=16, arguments=load.arguments,
        ),
    )  # fmt: skip
    await engine.start()
    try:
        base = Bundle.load(ROOT / "testbed" / "bundles" / "llava")
        hidden = engine.identity.hidden_size
        numbers = np.random.default_rng(0)
        probe = LinearProbe(
            layer=layer,
            position=base.probe.position,
            weights=numbers.normal(size=hidden),
            intercept=0.0,
            mean=np.zeros(hidden),
            scale=np.ones(hidden),
            components=numbers.normal(size=(len(base.probe.components), hidden)),
        )
        bundle = replace(
            base, model=engine.identity, probe=probe, attention_layers=(layer,),
            alpha=None, attempts=(), golden=(),
        )  # fmt: skip
        golden = []
        for query in queries(1, 2, shape, load.tokens):
            answer = await engine.generate(query, bundle.readout)
            readouts = {
                place: value
                for place, value in answer.trace.readouts.items()
                if not isinstance(value, Missing)
            }
            golden.append(Golden(query, answer.answer, readouts))
        replace(bundle, golden=tuple(golden)).save(folder)
    finally:
        await engine.close()
    return folder


@contextmanager
def gate(load: Serving, model: Path, bundle: Path, url: str) -> Iterator[Path]:
    """``vlm-gate serve`` on vLLM; gives its log."""
    settings = {
        "ENGINE": "vllm", "MODEL": str(model), "BUNDLE": str(bundle), "PORT": url.split(":")[-1],
        "RECORDS_URL": "", "MAX_INFLIGHT": "512", "MAX_QUEUE": "4096", "DEADLINE_SECONDS": "120",
        "VLLM_GPU_MEMORY_UTILIZATION": str(load.memory), "VLLM_MAX_MODEL_LEN": str(load.context),
        "VLLM_ENFORCE_EAGER": str(load.toy).lower(), "DECODE_PROCESSES": "8",
        "STATE_FOLDER": str(bundle.parent), "VLLM_ARGUMENTS": json.dumps(load.arguments),
    }  # fmt: skip
    environment = {**os.environ, **{f"VLM_GATE_{name}": text for name, text in settings.items()}}
    log = bundle.parent / "gate.log"
    with running([sys.executable, "-m", "service.cli", "serve"], environment, log):
        yield log


@contextmanager
def chat(load: Serving, model: Path) -> Iterator[tuple[str, Path]]:
    """``vllm serve``; gives its address and its log."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", load.shape, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", load.dtype, "--max-model-len", str(load.context),
        "--gpu-memory-utilization", str(load.memory), "--load-format", "dummy",
        "--limit-mm-per-prompt", '{"image": 1}', *(
            ["--enforce-eager", "--block-size", "32"] if load.toy else []
        ),
    ]  # fmt: skip
    log = model.parent / "vllm.log"
    with running(command, dict(os.environ), log):
        yield f"http://127.0.0.1:{port}", log


@contextmanager
def running(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """A process of our own, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ready(url: str) -> None:
    """Wait until the address says 200."""
    end = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient() as client:
        async for _ in ticks(end):
            try:
                if (await client.get(url, timeout=2)).status_code == 200:
                    return
            except httpx.TransportError:
                continue
    raise TimeoutError(f"{url}: not ready in {START_SECONDS:g} s")


async def ticks(end: float) -> AsyncIterator[None]:
    """Every half second until ``end``, by the monotonic clock."""
    while time.monotonic() < end:
        yield
        await asyncio.sleep(0.5)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])
