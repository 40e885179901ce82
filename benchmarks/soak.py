"""Mixed load with clients that go away and a cache too small: whose record is on whose answer?"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.agreement import Trial, compare, scene_questions
from benchmarks.host import memory_on_cards
from probes.readouts import default_layers
from probes.types import POSITIONS, Generation, Query, Readout
from service.engines.vllm.engine import VllmEngine

QUESTIONS = 64
CLIENTS = 48
BLOCKS = 40
"""Blocks of the KV cache: hardly more than one longest prompt, so that requests are preempted."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 6e-2, "float16": 2e-2}


async def soak(found: dict[str, Any], trial: Trial, seconds: float) -> None:
    """Ask for so long; every record is held against its question's own, read alone."""
    # Prompts of 75 to 82 tokens: with blocks of 16 most answers need one more.
    blocks = {"block_size": 16, "num_gpu_blocks_override": BLOCKS}
    arguments = blocks | dict(trial.arguments)
    trial = replace(trial, arguments=tuple(arguments.items()))
    asked = scene_questions(QUESTIONS)
    layers = trial_layers(trial)
    engine = trial.engine(layers)
    await engine.start()
    readout = Readout(default_layers(layers), POSITIONS, None, (layers // 2,))
    try:
        alone = [await engine.generate(query, readout) for query in asked]
        found["memory_before_bytes"] = memory()
        counts = {"answered": 0, "left": 0, "sampled": 0, "failed": 0, "strange": 0}
        found["counts"] = counts
        worst = [0.0]
        end = time.monotonic() + seconds
        middle = time.monotonic() + seconds / 2
        clients = [
            _client(random.Random(number), engine, asked, alone, readout, end, counts, worst,
                    TOLERANCE[trial.dtype])
            for number in range(CLIENTS)
        ]  # fmt: skip
        working = asyncio.gather(*clients)
        await asyncio.sleep(max(0.0, middle - time.monotonic()))
        found["memory_middle_bytes"] = memory()
        await working
        found["readout_deviation_largest"] = float(f"{worst[0]:.3g}")
        found["memory_after_bytes"] = memory()
        found["healthy"] = engine.healthy
        found["preempted"] = (await engine._call("vlm_gate_status"))[0]["preempted"]
        found["open"] = engine._open
    finally:
        await engine.close()


async def _client(
    chance: random.Random,
    engine: VllmEngine,
    asked: list[Query],
    alone: list[Generation],
    readout: Readout,
    end: float,
    counts: dict[str, int],
    worst: list[float],
    tolerance: float,
) -> None:
    while time.monotonic() < end:
        number = chance.randrange(len(asked))
        kind = chance.random()
        try:
            if kind < 0.2:
                async with asyncio.timeout(chance.random() * 0.05):
                    await engine.generate(asked[number], readout)
                counts["answered"] += 1
                continue
            if kind < 0.35:
                await engine.sample(asked[number], 5, temperature=0.9, top_p=0.9, seed=number)
                counts["sampled"] += 1
                continue
            answer = await engine.generate(asked[number], readout)
        except TimeoutError:
            counts["left"] += 1
            continue
        except Exception as error:
            counts["failed"] += 1
            print(f"soak: {error!r}", flush=True)
            continue
        counts["answered"] += 1
        deviation = compare([alone[number]], [answer])["readout_largest"]
        worst[0] = max(worst[0], deviation)
        counts["strange"] += deviation > tolerance


def trial_layers(trial: Trial) -> int:
    """Decoder layers of the trial's model."""
    from transformers import AutoConfig

    layers: int = AutoConfig.from_pretrained(trial.folder).get_text_config().num_hidden_layers
    return layers


def memory() -> dict[str, int]:
    """Resident memory of this process and its children, and what of the cards is used."""
    total = 0
    mine = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == os.getpgrp():
            mine.add(int(path.parent.name))
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    used = sum(size for process, size in memory_on_cards() if process in mine)
    return {"host": total, "cards": used}
