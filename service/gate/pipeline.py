"""One request, from the question to the decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from probes.model.bundle import Bundle
from probes.model.policy import TwoStages
from probes.signals.evidence import mask_image, measure_evidence
from probes.signals.measure import measure
from probes.signals.sampling import draw_chunk
from probes.types import (
    Evidence,
    Generation,
    Missing,
    Query,
)
from service.engines.base import Engine, EngineError
from service.gate.ask import Ask, Outcome
from service.gate.candidate import compare
from service.gate.stages import Stages

Result = TypeVar("Result")


async def run(ask: Ask, engine: Engine, stages: Stages) -> Outcome:
    """Answer a question and decide on the answer. Raises EngineError when there is no answer.

    In mode ``always`` the first samples are needed whatever the risk is: they are drawn beside the
    answer. The stage ``sample`` times what there is to wait for samples once the answer is judged.
    """
    if ask.self_consistency != "always":
        return await _run_steps(ask, engine, stages, None)
    chunk = draw_chunk(engine, ask.query, ask.rules.bundle.generation, 0, ask.samples)
    async with _beside(chunk) as first:
        return await _run_steps(ask, engine, stages, first)


async def _run_steps(
    ask: Ask, engine: Engine, stages: Stages, first: asyncio.Task[tuple[str, ...]] | None
) -> Outcome:
    """The steps, in their order. ``first``: the first samples where they are being drawn."""
    rules = ask.rules
    with stages.timed("generate"):
        whole = await engine.generate(ask.query, rules.readout)
    generation = rules.own(whole)
    if ask.on_generation is not None:
        ask.on_generation(generation)
    shortened = _other_length(generation, ask.query, rules.bundle)
    certificate = rules.certificate_for(
        ask.self_consistency, ask.samples, shortened=shortened, metadata=ask.metadata
    )
    evidence: Evidence | Missing = Missing("not_requested")
    if ask.evidence:
        with stages.timed("evidence"):
            evidence = await _evidence(ask.query, generation, engine)
    with stages.timed("measure"):
        # With the image's features known it takes less than handing it to another thread.
        signals = replace(measure(ask.query, generation, rules.bundle), evidence=evidence)
        judged = TwoStages(
            rules.policy, certificate, rules.bundle.assess, signals,
            mode=ask.self_consistency, greedy=generation.answer, planned=ask.samples,
        )  # fmt: skip
    if judged.samples is not None:
        with stages.timed("sample"):
            await _sample(judged, ask, engine, first)
    with stages.timed("decide"):
        assessment, decision = judged.decide()
    outcome = Outcome(generation, assessment, decision, certificate)
    if rules.candidate is None:
        return outcome
    with stages.timed("candidate"):
        read, samples = rules.candidates(whole), judged.samples
        compared = compare(ask, read, samples, decision, evidence=evidence, shortened=shortened)
    return replace(outcome, compared=compared)


async def _sample(
    judged: TwoStages, ask: Ask, engine: Engine, first: asyncio.Task[tuple[str, ...]] | None
) -> None:
    """Sample answers until the decision is settled."""
    settings, drawn = ask.rules.bundle.generation, 0
    try:
        while judged.unsettled:
            if first is not None and drawn == 0:
                chunk = await first
            else:
                chunk = await draw_chunk(engine, ask.query, settings, drawn, ask.samples)
            judged.take(chunk)
            drawn += len(chunk)
    except EngineError:
        judged.take(Missing("engine_error"))


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
    images = await asyncio.to_thread(mask_image, query.image, generation.trace, engine.patch_boxes)
    if isinstance(images, Missing):
        return Missing("no_attention") if images == Missing("not_requested") else images
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
