"""The policy in force, as it is told at the edge."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from probes.model.bundle import Bundle
from probes.types import ConsistencyMode, Missing, PolicyMode, QuestionMode, SmallSlices
from service.gate.rules import Rules
from service.schemas.answer import (
    CertificateBody,
    MissingPart,
    ModelBody,
    certificate_body,
    model_body,
)


class CandidateBody(BaseModel):
    """Rules that are scored beside those in force and decide nothing."""

    bundle: str
    policy: PolicyMode
    accept_below: float | None = Field(description="in the default self-consistency mode")
    reject_above: float | None


class PolicyResponse(BaseModel):
    """The policy in force."""

    policy: PolicyMode = Field(description="manual: the operator's thresholds, and no certificate")
    mode: Literal["enforce", "shadow"]
    accept_below: float | None = Field(description="in the default self-consistency mode")
    reject_above: float | None
    required: list[str]
    self_consistency: ConsistencyMode
    small_slices: SmallSlices = Field(
        description="what serves slices too small for a test of their own"
    )
    samples: int
    questions: QuestionMode | MissingPart = Field(
        description="which questions are within the domain; missing: the bundle is of a format "
        "without a question side, so all are"
    )
    certificates: dict[ConsistencyMode, CertificateBody | MissingPart]
    loosened_from: float | None = Field(
        description="alpha before recertify --loosen put a larger one in its place; null otherwise"
    )
    bundle: str
    model: ModelBody
    candidate: CandidateBody | None = Field(description="VLM_GATE_SHADOW_BUNDLE and _POLICY")

    @classmethod
    def from_rules(cls, rules: Rules, mode: Literal["enforce", "shadow"]) -> PolicyResponse:
        """Translate what decides now."""
        policy, thresholds = rules.policy, rules.thresholds()
        return cls(
            policy=policy.mode,
            mode=mode,
            accept_below=thresholds.get("accept_below"),
            reject_above=thresholds.get("reject_above"),
            required=list(policy.required),
            self_consistency=policy.self_consistency,
            small_slices=policy.small_slices,
            samples=rules.bundle.generation.samples,
            questions=_questions(rules.bundle),
            certificates={m: certificate_body(c) for m, c in rules.certificates().items()},
            loosened_from=rules.bundle.loosened_from,
            bundle=rules.bundle.id,
            model=model_body(rules.bundle.model),
            candidate=None if rules.candidate is None else _candidate(rules.candidate),
        )


def _questions(bundle: Bundle) -> QuestionMode | MissingPart:
    model = bundle.questions
    return MissingPart(missing=model.reason) if isinstance(model, Missing) else model.mode


def _candidate(rules: Rules) -> CandidateBody:
    thresholds = rules.thresholds()
    return CandidateBody(
        bundle=rules.bundle.id,
        policy=rules.policy.mode,
        accept_below=thresholds.get("accept_below"),
        reject_above=thresholds.get("reject_above"),
    )
