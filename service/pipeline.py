"""One request, from the question to the decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from probes.bundle import Bundle
from probes.guarantee import Certificate
from probes.policy import Policy, settled
from probes.sampling import draw_chunk
from probes.signals import measure
from probes.signals.consistency import measure_consistency
from probes.types import (
    ConsistencyMode,
    Decision,
    Generation,
    Missing,
    Query,
    RiskAssessment,
    SelfConsistency,
    Signals,
)
from service.engines.base import Engine, EngineError
from service.picture import Picture
from service.telemetry import Stages


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A question with how it is to be judged, and what the records keep of it.

    Args:
        on_generation: called with the answer as soon as there is one, before it is judged.
    """

    query: Query
    self_consistency: ConsistencyMode
    samples: int
    evidence: bool
    picture: Picture
    metadata: Mapping[str, str]
    on_generation: Callable[[Generation], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An answer with what is thought of it."""

    generation: Generation
    assessment: RiskAssessment
    decision: Decision
    certificate: Certificate | Missing


async def answer(
    ask: Ask, engine: Engine, bundle: Bundle, stages: Stages, *, void: bool
) -> Outcome:
    """Answer a question and decide on the answer. Raises EngineError when there is no answer.

    Args:
        void: audits have shown that the certificates do not hold.
    """
    policy = bundle.policy
    with stages.timed("generate"):
        generation = await engine.generate(ask.query, bundle.readout)
    if ask.on_generation is not None:
        ask.on_generation(generation)
    certificate = bundle.certificate_for(
        policy,
        ask.self_consistency,
        ask.samples,
        shortened=_other_length(generation, ask.query, bundle),
        now=datetime.now(UTC),
        slice=bundle.slice_of(ask.metadata),
    )
    if void and isinstance(certificate, Certificate):
        certificate = Missing("certificate_void")
    with stages.timed("measure"):
        # With the image's features known it takes less than handing it to another thread.
        signals = measure(ask.query, generation, bundle)
        signals = _with_evidence(signals, ask.evidence)
        assessment = bundle.assess(signals)
    wanted = ask.self_consistency == "always" or (
        ask.self_consistency == "auto" and policy.middle_band(assessment, certificate)
    )
    if wanted:
        policy = replace(policy, required=(*policy.required, "self_consistency"))
        with stages.timed("sample"):
            consistency = await _sample(
                ask, generation, signals, policy, certificate, engine=engine, bundle=bundle
            )
        assessment = bundle.assess(replace(signals, self_consistency=consistency))
    with stages.timed("decide"):
        decision = policy.decide(assessment, certificate)
    return Outcome(generation, assessment, decision, certificate)


async def _sample(
    ask: Ask,
    generation: Generation,
    signals: Signals,
    policy: Policy,
    certificate: Certificate | Missing,
    *,
    engine: Engine,
    bundle: Bundle,
) -> SelfConsistency | Missing:
    """Sample answers until the decision is settled."""

    def decide(consistency: SelfConsistency | Missing) -> Decision:
        assessment = bundle.assess(replace(signals, self_consistency=consistency))
        return policy.decide(assessment, certificate)

    samples: tuple[str, ...] = ()
    try:
        while not settled(generation.answer, samples, ask.samples, decide):
            samples += await draw_chunk(
                engine, ask.query, bundle.generation, len(samples), ask.samples
            )
    except EngineError:
        return Missing("engine_error")
    return measure_consistency(generation.answer, samples, ask.samples)


def _other_length(generation: Generation, query: Query, bundle: Bundle) -> bool:
    """Whether the answer's length limit made it another answer than the certified policy's."""
    certified = bundle.generation.max_tokens
    cut = generation.finish_reason == "length" and query.max_tokens < certified
    return cut or len(generation.token_ids) > certified


def _with_evidence(signals: Signals, asked: bool) -> Signals:
    return replace(signals, evidence=Missing("not_supported")) if asked else signals
