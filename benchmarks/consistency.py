"""What self-consistency costs on an embedded model, and the coverage that it buys."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import numpy as np

from benchmarks.agreement import Trial, scene_questions
from benchmarks.host import ROOT
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from probes.types import CONSISTENCY_MODES, ConsistencyMode, Missing, Query
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm.options import VllmOptions
from service.gate.ask import Ask, Outcome
from service.gate.pipeline import run
from service.gate.rules import Rules
from service.gate.stages import Stages
from service.images.picture import Picture

AT_ONCE = (64, 256)
ROUNDS = 3


async def consistency(found: dict[str, Any], trial: Trial) -> None:
    """Ask the line domain's questions in each mode, some rounds in turns, so many at once.

    What a mode costs is time per question, as a multiple of that without samples. With few at once
    a second stage also leaves the GPU idle, so that is told for several numbers at once.
    """
    bundle = read_bundle(ROOT / "testbed" / "bundles" / trial.model)
    engine = VllmEngine(
        str(trial.folder),
        dtype=trial.dtype,
        layers=bundle.readout.layers,
        attention_layers=bundle.attention_layers,
        options=VllmOptions(
            gpu_memory_utilization=trial.memory,
            max_num_seqs=1024 if trial.device == "cuda" else 16,
            enforce_eager=trial.device == "cpu",
            arguments=dict(trial.arguments),
        ),
        queue_size=8192,
    )
    await engine.start()
    outcomes: dict[str, list[Outcome]] = {mode: [] for mode in CONSISTENCY_MODES}
    found["at_once"] = {}
    try:
        for place, at_once in enumerate(AT_ONCE):
            here = found["at_once"][str(at_once)] = {}
            seed = 600_000 + 100_000 * place
            await _costs(here, engine, bundle, trial, outcomes, at_once=at_once, seed=seed)
        # What each mode accepts, of the same questions: the images of one more round.
        asked = _questions(trial, bundle, trial.questions // 4, 590_000)
        same = {
            mode: await _ask_all(engine, bundle, asked, mode, AT_ONCE[0])
            for mode in CONSISTENCY_MODES
        }
        found["same_questions"] = {mode: _bought(told) for mode, told in same.items()}
        found["all_questions"] = {mode: _bought(told) for mode, told in outcomes.items()}
    finally:
        await engine.close()


async def _costs(
    found: dict[str, Any],
    engine: VllmEngine,
    bundle: Bundle,
    trial: Trial,
    outcomes: dict[str, list[Outcome]],
    *,
    at_once: int,
    seed: int,
) -> None:
    """Measure what each mode costs; ``found`` gets it with every round."""
    seconds: dict[str, list[float]] = {mode: [] for mode in CONSISTENCY_MODES}
    found["seconds_per_question"] = seconds
    count = max(trial.questions // 4, 2 * at_once) if trial.device == "cuda" else at_once // 16
    for number in range(ROUNDS + 1):
        for place, mode in enumerate(CONSISTENCY_MODES):
            # Images of their own in every round: nothing may come from a cache.
            asked = _questions(trial, bundle, count, seed + 20_000 * number + 5_000 * place)
            begun = time.perf_counter()
            told = await _ask_all(engine, bundle, asked, mode, at_once)
            took = (time.perf_counter() - begun) / len(asked)
            if number:  # the first round warms up
                seconds[mode].append(round(took, 6))
                outcomes[mode] += told
    plain = np.median(seconds["never"])
    found["cost"] = {
        mode: round(float(np.median(each) / plain), 3) for mode, each in seconds.items()
    }


def _questions(trial: Trial, bundle: Bundle, count: int, seed: int) -> list[Query]:
    """Some of the line domain, answered as long as the certificates say."""
    asked = scene_questions(count, "line", seed)
    return [replace(query, max_tokens=bundle.generation.max_tokens) for query in asked]


def _bought(outcomes: list[Outcome]) -> dict[str, Any]:
    """Coverage, and how much was sampled for it."""
    signals = [outcome.assessment.signals.self_consistency for outcome in outcomes]
    samples = [0 if isinstance(each, Missing) else each.samples for each in signals]
    reasons = Counter(str(outcome.decision.reason) for outcome in outcomes)
    return {
        "questions": len(outcomes),
        "coverage": round(reasons["risk_below_threshold"] / len(outcomes), 4),
        "reasons": dict(reasons),
        "sampled_share": round(float(np.mean(np.array(samples) > 0)), 4),
        "samples_per_question": round(float(np.mean(samples)), 3),
    }


async def _ask_all(
    engine: VllmEngine, bundle: Bundle, asked: list[Query], mode: str, at_once: int
) -> list[Outcome]:
    gate = asyncio.Semaphore(at_once)
    rules = Rules(bundle, bundle.policy)

    async def one(query: Query) -> Outcome:
        wish = Ask(
            query=query,
            self_consistency=cast(ConsistencyMode, mode),
            samples=bundle.generation.samples,
            evidence=False,
            picture=cast(Picture, None),
            metadata={},
            rules=rules,
        )
        async with gate:
            return await run(wish, engine, Stages())

    return await asyncio.gather(*(one(query) for query in asked))
