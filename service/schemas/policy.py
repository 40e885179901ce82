"""A policy as an operator writes it, and the policy in force."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from probes.types import ConsistencyMode, PolicyMode, QuestionMode, SmallSlices
from service.schemas.answer import CertificateBody, MissingPart, ModelBody

Signal = Literal[
    "hidden_state_probe", "token_confidence", "self_consistency", "attention", "evidence", "domain",
    "question_kind",
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]


class PolicyRequest(BaseModel):
    """When an answer is accepted, rejected, or goes to a person."""

    model_config = ConfigDict(extra="forbid")

    policy: PolicyMode = Field(
        description="certified: accept_below comes from the certificate and cannot be set here; "
        "manual: both thresholds are set here, and no certificate applies"
    )
    accept_below: Share | None = Field(
        None, description="manual only: accept risks at or below it; null accepts none"
    )
    reject_above: Share | None = Field(
        None, description="manual only: reject risks above it; null rejects none"
    )
    required: list[Signal] | None = Field(
        None,
        max_length=len(get_args(Signal)),
        description="signals without which nothing is accepted; by default the bundle's, and with "
        "certified no others",
    )
    self_consistency: ConsistencyMode | None = Field(
        None, description="the mode of a request that does not choose; by default the bundle's"
    )
    small_slices: SmallSlices | None = Field(
        None,
        description="slices too small for a test of their own: pooled (the certificate that they "
        "share) or own_or_escalate (none); by default the bundle's",
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
