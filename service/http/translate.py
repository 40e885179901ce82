"""Translates between the schemas and the gate: questions in, answers and the rules in force out.

The schemas say what a caller sends and gets. These functions alone know both sides.
"""

from __future__ import annotations

from typing import Literal

from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.signals.codec import parts_of
from probes.types import Missing, ModelIdentity, Query
from service.gate.ask import Ask, Outcome
from service.gate.rules import Rules
from service.images.picture import Picture
from service.schemas.answer import (
    AnswerOptions,
    AnswerResponse,
    CertificateBody,
    MissingPart,
    ModelBody,
    Risk,
    SignalsBody,
    Timing,
)
from service.schemas.policy import CandidateBody, PolicyResponse


def to_ask(options: AnswerOptions, picture: Picture, rules: Rules) -> Ask:
    """The question about a picture, with the rules' defaults where the request left the choice."""
    settings = rules.bundle.generation
    max_tokens = options.max_tokens or settings.max_tokens
    return Ask(
        query=Query(picture.pixels, options.question, max_tokens, picture.features, picture.damage),
        self_consistency=options.self_consistency or rules.policy.self_consistency,
        samples=options.samples or settings.samples,
        evidence=options.evidence,
        picture=picture,
        metadata=options.metadata,
        group=options.group,
        rules=rules,
    )


def to_answer_response(
    outcome: Outcome,
    *,
    request_id: str,
    bundle: Bundle,
    mode: Literal["enforce", "shadow"],
    timing: Timing,
) -> AnswerResponse:
    """The response to a question, under the id that its record has."""
    decision, score = outcome.decision, outcome.assessment.score
    return AnswerResponse(
        id=request_id,
        answer=outcome.generation.answer,
        decision=decision.decision,
        reason=decision.reason,
        risk=Risk(
            score=None if isinstance(score, Missing) else score,
            status=score.reason if isinstance(score, Missing) else "ok",
            accept_below=decision.accept_below,
            reject_above=decision.reject_above,
        ),
        signals=SignalsBody.model_validate(parts_of(outcome.assessment.signals)),
        certificate=_certificate(outcome.certificate),
        model=_model(bundle.model),
        bundle=bundle.id,
        mode=mode,
        timing=timing,
    )


def to_policy_response(rules: Rules, mode: Literal["enforce", "shadow"]) -> PolicyResponse:
    """The rules that decide now."""
    bundle, policy, thresholds = rules.bundle, rules.policy, rules.thresholds()
    questions = bundle.questions
    return PolicyResponse(
        policy=policy.mode,
        mode=mode,
        accept_below=thresholds.get("accept_below"),
        reject_above=thresholds.get("reject_above"),
        required=list(policy.required),
        self_consistency=policy.self_consistency,
        small_slices=policy.small_slices,
        samples=bundle.generation.samples,
        questions=MissingPart(missing=questions.reason)
        if isinstance(questions, Missing)
        else questions.mode,
        certificates={name: _certificate(one) for name, one in rules.certificates().items()},
        loosened_from=bundle.loosened_from,
        bundle=bundle.id,
        model=_model(bundle.model),
        candidate=None if rules.candidate is None else _candidate(rules.candidate),
    )


def _candidate(rules: Rules) -> CandidateBody:
    thresholds = rules.thresholds()
    return CandidateBody(
        bundle=rules.bundle.id,
        policy=rules.policy.mode,
        accept_below=thresholds.get("accept_below"),
        reject_above=thresholds.get("reject_above"),
    )


def _certificate(certificate: Certificate | Missing) -> CertificateBody | MissingPart:
    """A certificate in force, or why there is none."""
    if isinstance(certificate, Missing):
        return MissingPart(missing=certificate.reason)
    return CertificateBody(
        id=certificate.id,
        valid=True,
        alpha=certificate.alpha,
        delta=certificate.delta,
        n=certificate.n,
        expires=certificate.expires,
        scope=certificate.scope,
        test=certificate.test,
        unit=certificate.unit,
        old_kind=certificate.old,
        estimand=certificate.estimand,
        most_per_group=certificate.most_per_group,
        groups=certificate.groups,
        level=certificate.level,
    )


def _model(identity: ModelIdentity) -> ModelBody:
    return ModelBody(name=identity.name, revision=identity.revision)
