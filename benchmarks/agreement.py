"""An embedded model on vLLM against the transformers engine: readouts, decisions, answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.host import ROOT
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.model.folder import read_bundle
from probes.readouts import default_layers
from probes.signals.measure import measure
from probes.types import POSITIONS, AttentionMaps, Generation, Missing, Query, Readout
from service.engines.base import Engine
from service.engines.transformers.engine import TransformersEngine
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm.options import VllmOptions
from testbed.drawing import render
from testbed.questions import ask
from testbed.scenes import Domain, make_scene

SIZES = (1, 7, 8, 9, 65, 257)
"""Requests at once: below, at and above sizes that have a CUDA graph."""
FIRST_SEED = 500_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What is compared.

    Args:
        model: folder name under ``testbed/models``.
        dtype: vLLM's arithmetic.
        device: of the transformers engine.
        questions: whose decisions are compared.
        sizes: of the batches whose readouts are compared.
        memory: share of the card for vLLM.
        tensor_parallel_size: GPUs.
        eager: compare an engine without graphs as well.
        arguments: more of vLLM's.
    """

    model: str = "llava"
    dtype: str = "bfloat16"
    device: str = "cuda"
    questions: int = 1000
    sizes: tuple[int, ...] = SIZES
    memory: float = 0.15
    tensor_parallel_size: int = 1
    eager: bool = True
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / "testbed" / "models" / self.model

    def bundle(self) -> Bundle | None:
        """The model's own, if the testbed has one."""
        folder = ROOT / "testbed" / "bundles" / self.model
        return read_bundle(folder) if folder.is_dir() else None

    def layers(self, count: int) -> tuple[int, ...]:
        """Those that collection reads by default, and those that the bundle does."""
        bundle = self.bundle()
        own = bundle.readout.layers if bundle is not None else ()
        return tuple(sorted({*default_layers(count), *own}))

    def engine(self, layers: int, *, eager: bool = False) -> VllmEngine:
        # The embedded models' towers have five heads, which two GPUs cannot share.
        whole_tower = {"mm_encoder_tp_mode": "data"} if self.tensor_parallel_size > 1 else {}
        return VllmEngine(
            str(self.folder),
            dtype=self.dtype,
            layers=self.layers(layers),
            attention_layers=tuple(range(1, layers + 1)),
            options=VllmOptions(
                gpu_memory_utilization=self.memory,
                max_num_seqs=512 if self.device == "cuda" else 16,
                enforce_eager=eager or self.device == "cpu",
                tensor_parallel_size=self.tensor_parallel_size,
                arguments=dict(self.arguments) | whole_tower,
            ),
            queue_size=8192,
        )


def scene_questions(count: int, domain: Domain = "line", seed: int = FIRST_SEED) -> list[Query]:
    """Questions of the testbed, two to a scene, of scenes that were never trained on."""
    found: list[Query] = []
    while len(found) < count:
        scene = make_scene(seed, domain)
        image = render(scene)
        for question in ask(scene, np.random.default_rng(seed), n=2):
            found.append(Query(image, question.text, 32))
        seed += 1
    return found[:count]


async def agreement(found: dict[str, Any], trial: Trial) -> None:
    """Compare; ``found`` gets the largest deviations and the share of equal decisions."""
    half = trial.questions // 2
    asked = [*scene_questions(half), *scene_questions(trial.questions - half, "catalog")]
    reference = TransformersEngine(
        str(trial.folder), device=trial.device, dtype="float32",
        max_batch_size=64, queue_size=8192,
    )  # fmt: skip
    await reference.start()
    count = reference.identity.layers
    readout = Readout(trial.layers(count), POSITIONS, None, tuple(range(1, count + 1)))
    expected = await together(reference, asked, readout)
    await reference.close()
    few = asked[: max(trial.sizes)]
    if trial.dtype != "float32":
        rounded = TransformersEngine(
            str(trial.folder), device=trial.device, dtype=trial.dtype,
            max_batch_size=64, queue_size=8192,
        )  # fmt: skip
        await rounded.start()
        again = await together(rounded, few, readout)
        await rounded.close()
        found[f"transformers_{trial.dtype}"] = compare(expected, again)
    engine = trial.engine(count)
    begun = time.perf_counter()
    await engine.start()
    found["start_seconds"] = round(time.perf_counter() - begun, 1)
    found["attention_missing"] = engine.attention_missing
    found["attention_deviation"] = engine.attention_deviation
    found["identity"] = str(engine.identity)
    try:
        alone = [await engine.generate(query, readout) for query in few[:16]]
        found["vllm_alone"] = compare(expected, alone)
        for size in trial.sizes:
            batch = await together(engine, few[:size], readout)
            found[f"vllm_batch_{size}"] = compare(expected, batch)
            found[f"vllm_batch_{size}_against_alone"] = compare(alone, batch)
        begun = time.perf_counter()
        answers = await together(engine, asked, readout)
        found["questions_per_second"] = round(len(asked) / (time.perf_counter() - begun), 1)
        found["decisions"] = decisions(trial, asked, expected, answers)
    finally:
        await engine.close()
    others = []
    if trial.eager:
        others.append(("eager", trial.engine(count, eager=True)))
    if trial.tensor_parallel_size > 1:
        others.append(("one_gpu", replace(trial, tensor_parallel_size=1).engine(count)))
    for name, other in others:
        await other.start()
        try:
            batch = await together(other, few[:65], readout)
        finally:
            await other.close()
        found[name] = compare(expected, batch)
        found[f"against_{name}"] = compare(batch, answers)


async def together(engine: Engine, asked: Sequence[Query], readout: Readout) -> list[Generation]:
    """All answers, asked at once."""
    return await asyncio.gather(*(engine.generate(query, readout) for query in asked))


def compare(expected: Sequence[Generation], found: Sequence[Generation]) -> dict[str, Any]:
    """Over the questions that both have: equal answers, and largest deviations of what was read.

    Readouts of a question whose answers differ are compared at the last prompt token only. A
    readout's deviation is a share of its largest entry.
    """
    same = 0
    hidden: list[float] = []
    attention: list[float] = []
    for one, other in zip(expected, found, strict=False):
        equal = one.token_ids == other.token_ids
        same += equal
        for (layer, position), value in one.trace.readouts.items():
            again = other.trace.readouts[layer, position]
            if isinstance(value, Missing) or isinstance(again, Missing):
                continue
            if equal or position == "prompt_last":
                hidden.append(float(np.abs(value - again).max() / np.abs(value).max()))
        maps, again_maps = one.trace.attention, other.trace.attention
        if isinstance(maps, AttentionMaps) and isinstance(again_maps, AttentionMaps):
            attention.append(float(np.abs(maps.prompt_last - again_maps.prompt_last).max()))
    size = min(len(expected), len(found))
    return {
        "questions": size,
        "same_answer": round(same / size, 4),
        "readout_largest": float(f"{max(hidden):.3g}"),
        "readout_median": float(f"{np.median(hidden):.3g}"),
        "attention_largest": float(f"{max(attention):.3g}") if attention else None,
    }


def decisions(
    trial: Trial, asked: Sequence[Query], one: Sequence[Generation], other: Sequence[Generation]
) -> dict[str, Any]:
    """How often the bundle decides the same from what two engines read."""
    bundle = trial.bundle()
    if bundle is None:
        return {"missing": f"no bundle {trial.model}"}
    certificate = bundle.certificates.get("never", Missing("no_certificate"))
    verdicts: list[list[str]] = []
    risks: list[list[float]] = []
    for answers in (one, other):
        assessed = [
            bundle.assess(measure(query, projected(answer, bundle), bundle))
            for query, answer in zip(asked, answers, strict=True)
        ]
        risks.append([np.nan if isinstance(a.score, Missing) else a.score for a in assessed])
        verdicts.append([bundle.policy.decide(a, certificate).decision for a in assessed])
    table = np.array(risks)
    equal = [a == b for a, b in zip(*verdicts, strict=True)]
    return {
        "questions": len(equal),
        "certified": isinstance(certificate, Certificate),
        "same_decision": float(np.mean(equal)),
        "same_answer": float(
            np.mean([a.token_ids == b.token_ids for a, b in zip(one, other, strict=True)])
        ),
        "accepted": [verdict.count("accept") / len(verdict) for verdict in verdicts],
        "risk_deviation_largest": float(np.nanmax(np.abs(table[0] - table[1]))),
        "risk_deviation_median": float(np.nanmedian(np.abs(table[0] - table[1]))),
    }


def projected(answer: Generation, bundle: Bundle) -> Generation:
    """The generation as if the bundle's own readout had been asked for."""
    place = (bundle.probe.layer, bundle.probe.position)
    state = answer.trace.readouts[place]
    if not isinstance(state, Missing):
        state = state @ bundle.probe.projection
    return replace(answer, trace=replace(answer.trace, readouts={place: state}))
