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
from probes.bundle import Bundle
from probes.types import CONSISTENCY_MODES, ConsistencyMode, Missing, Query
from service.engines.vllm import VllmEngine
from service.engines.vllm_options import VllmOptions
from service.picture import Picture
from service.pipeline import Ask, Outcome, answer
from service.rules import Rules
from service.telemetry import Stages

CONCURRENCY = 64
ROUNDS = 3


async def consistency(found: dict[str, Any], trial: Trial) -> None:
    """Ask the line domain's questions in each mode, three times in turns."""
    bundle = Bundle.load(ROOT / "testbed" / "bundles" / trial.model)
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
    seconds: dict[str, list[float]] = {mode: [] for mode in CONSISTENCY_MODES}
    outcomes: dict[str, list[Outcome]] = {mode: [] for mode in CONSISTENCY_MODES}
    found["seconds_per_question"] = seconds
    try:
        for number in range(ROUNDS + 1):
            for mode in CONSISTENCY_MODES:
                # Images of their own in every round: nothing may come from a cache.
                seed = 600_000 + 20_000 * number + 5_000 * CONSISTENCY_MODES.index(mode)
                asked = _questions(trial, bundle, seed)
                begun = time.perf_counter()
                told = await _ask_all(engine, bundle, asked, mode)
                took = (time.perf_counter() - begun) / len(asked)
                if number:  # the first round warms up
                    seconds[mode].append(round(took, 6))
                    outcomes[mode] += told
        # What each mode accepts, of the same questions: the images of one more round.
        asked = _questions(trial, bundle, 590_000)
        same = {mode: await _ask_all(engine, bundle, asked, mode) for mode in CONSISTENCY_MODES}
        found["same_questions"] = {mode: _bought(told) for mode, told in same.items()}
    finally:
        await engine.close()
    plain = np.median(seconds["never"])
    for mode in CONSISTENCY_MODES:
        found[mode] = {
            "cost": round(float(np.median(seconds[mode]) / plain), 3),
            **_bought(outcomes[mode]),
        }


def _questions(trial: Trial, bundle: Bundle, seed: int) -> list[Query]:
    """A quarter of the trial's, of the line domain, answered as long as the certificates say."""
    asked = scene_questions(trial.questions // 4, "line", seed)
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
    engine: VllmEngine, bundle: Bundle, asked: list[Query], mode: str
) -> list[Outcome]:
    gate = asyncio.Semaphore(CONCURRENCY)
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
            return await answer(wish, engine, Stages())

    return await asyncio.gather(*(one(query) for query in asked))
