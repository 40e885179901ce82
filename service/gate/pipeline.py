"""One request, from the question to the decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.model.policy import Policy, settled
from probes.signals import measure
from probes.signals.consistency import measure_consistency
from probes.signals.evidence import answer_row, masked_images, measure_evidence
from probes.signals.sampling import draw_chunk
from probes.types import (
    ConsistencyMode,
    Decision,
    Evidence,
    Generation,
    Missing,
    Query,
    RiskAssessment,
    SelfConsistency,
    Signals,
)
from service.engines.base import Engine, EngineError
from service.gate.candidate import Compared, compare
from service.gate.rules import Rules
from service.images.picture import Picture
from service.observe.telemetry import Stages

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A question with how it is to be judged, and what the records keep of it.

    Args:
        group: scene, part or batch that the image shows, as the caller names it.
        rules: what judges it, to its end.
        on_generation: called with the answer as soon as there is one, before it is judged.
    """

    query: Query
    self_consistency: ConsistencyMode
    samples: int
    evidence: bool
    picture: Picture
    metadata: Mapping[str, str]
    group: str | None
    rules: Rules
    on_generation: Callable[[Generation], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An answer with what is thought of it."""

    generation: Generation
    assessment: RiskAssessment
    decision: Decision
    certificate: Certificate | Missing
    compared: Compared | None = None


async def answer(ask: Ask, engine: Engine, stages: Stages) -> Outcome:
    """Answer a question and decide on the answer. Raises EngineError when there is no answer.

    In mode ``always`` the first samples are needed whatever the risk is: they are drawn beside the
    answer. The stage ``sample`` times what there is to wait for samples once the answer is judged.
    """
    if ask.self_consistency != "always":
        return await _answer(ask, engine, stages, None)
    chunk = draw_chunk(engine, ask.query, ask.rules.bundle.generation, 0, ask.samples)
    async with _beside(chunk) as first:
        return await _answer(ask, engine, stages, first)


async def _answer(
    ask: Ask, engine: Engine, stages: Stages, first: asyncio.Task[tuple[str, ...]] | None
) -> Outcome:
    """The steps, in their order. ``first``: the first samples where they are being drawn."""
    rules = ask.rules
    bundle, policy = rules.bundle, rules.policy
    with stages.timed("generate"):
        whole = await engine.generate(ask.query, rules.readout)
    generation = rules.own(whole)
    if ask.on_generation is not None:
        ask.on_generation(generation)
    shortened = _other_length(generation, ask.query, bundle)
    certificate = rules.certificate_for(
        ask.self_consistency, ask.samples, shortened=shortened, metadata=ask.metadata
    )
    samples: tuple[str, ...] | Missing | None = None
    evidence: Evidence | Missing = Missing("not_requested")
    if ask.evidence:
        with stages.timed("evidence"):
            evidence = await _evidence(ask.query, generation, engine)
    with stages.timed("measure"):
        # With the image's features known it takes less than handing it to another thread.
        signals = replace(measure(ask.query, generation, bundle), evidence=evidence)
        assessment = bundle.assess(signals)
    wanted = ask.self_consistency == "always" or (
        ask.self_consistency == "auto" and policy.middle_band(assessment, certificate)
    )
    if wanted:
        policy = replace(policy, required=(*policy.required, "self_consistency"))
        with stages.timed("sample"):
            samples = await _sample(
                ask, generation, signals, policy, certificate, engine=engine, first=first
            )
        consistency = (
            samples
            if isinstance(samples, Missing)
            else measure_consistency(generation.answer, samples, ask.samples)
        )
        assessment = bundle.assess(replace(signals, self_consistency=consistency))
    with stages.timed("decide"):
        decision = policy.decide(assessment, certificate)
    outcome = Outcome(generation, assessment, decision, certificate)
    if rules.candidate is None:
        return outcome
    with stages.timed("candidate"):
        read = rules.candidates(whole)
        compared = compare(ask, read, samples, decision, evidence=evidence, shortened=shortened)
    return replace(outcome, compared=compared)


async def _sample(
    ask: Ask,
    generation: Generation,
    signals: Signals,
    policy: Policy,
    certificate: Certificate | Missing,
    *,
    engine: Engine,
    first: asyncio.Task[tuple[str, ...]] | None,
) -> tuple[str, ...] | Missing:
    """Sample answers until the decision is settled."""
    bundle = ask.rules.bundle

    def decide(consistency: SelfConsistency | Missing) -> Decision:
        assessment = bundle.assess(replace(signals, self_consistency=consistency))
        return policy.decide(assessment, certificate)

    samples: tuple[str, ...] = ()
    try:
        while not settled(generation.answer, samples, ask.samples, decide):
            if first is not None and not samples:
                samples = await first
                continue
            samples += await draw_chunk(
                engine, ask.query, bundle.generation, len(samples), ask.samples
            )
    except EngineError:
        return Missing("engine_error")
    return samples


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, Result]) -> AsyncIterator[asyncio.Task[Result]]:
    """Work beside the block. What is not done when the block ends is cancelled, and waited for."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _other_length(generation: Generation, query: Query, bundle: Bundle) -> bool:
    """Whether the answer's length limit made it another answer than the certified policy's."""
    certified = bundle.generation.max_tokens
    cut = generation.finish_reason == "length" and query.max_tokens < certified
    return cut or len(generation.token_ids) > certified


async def _evidence(query: Query, generation: Generation, engine: Engine) -> Evidence | Missing:
    """Score the answer again with parts of the image away, all at once."""
    maps, row = generation.trace.attention, answer_row(generation.trace)
    if isinstance(maps, Missing) or isinstance(row, Missing):
        reason = row.reason if isinstance(row, Missing) else "no_attention"
        return Missing("no_attention" if reason == "not_requested" else reason)
    boxes = engine.patch_boxes(query.image.shape[:2], maps.grid)
    if isinstance(boxes, Missing):
        return boxes
    images = await asyncio.to_thread(masked_images, query.image, row, boxes)
    if isinstance(images, Missing):
        return images
    try:
        scores = await asyncio.gather(
            *(
                engine.score(replace(query, image=image, features=None), generation.token_ids)
                for image in images.values()
            )
        )
    except EngineError:
        return Missing("engine_error")
    return measure_evidence(generation, dict(zip(images, scores, strict=True)))
