"""A question as it may be asked, and its answer as it is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from probes.types import (
    ConsistencyMode,
    DomainPart,
    QuestionMode,
    Reason,
    Scope,
    Verdict,
)

MAX_QUESTION = 2_000
MAX_SAMPLES = 50
MAX_TOKENS = 512
MAX_METADATA = 16
MAX_GROUP = 256


def _speakable(question: str) -> str:
    if "\x00" in question:
        raise ValueError("holds a NUL character; remove it")
    if not question.strip():
        raise ValueError("is blank; ask something")
    return question


def _nameable(group: str) -> str:
    if "\x00" in group or not group.strip():
        raise ValueError("names nothing (blank, or a NUL character); give a name, or leave it out")
    return group


Group = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_GROUP), AfterValidator(_nameable)
]


class AnswerOptions(BaseModel):
    """A question, and how its answer is to be judged (multipart: beside the file ``image``)."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[
        str, Field(min_length=1, max_length=MAX_QUESTION), AfterValidator(_speakable)
    ] = Field(description="the question about the image", examples=["Is there a scratch?"])
    self_consistency: ConsistencyMode | None = Field(
        None,
        description="sample more answers: by default the policy's choice",
    )
    samples: int | None = Field(
        None, ge=1, le=MAX_SAMPLES, description="answers to sample; by default the bundle's"
    )
    evidence: bool = Field(False, description="measure what the answer owes to the image")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS, description="most tokens of the answer; by default the bundle's"
    )
    metadata: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=256)],
    ] = Field(
        default_factory=dict,
        max_length=MAX_METADATA,
        description="the caller's own words about the request",
        examples=[{"line": "3", "camera": "A"}],
    )
    group: Group | None = Field(
        None,
        description="scene, part or batch that the image shows, as in a dataset: answers of one "
        "group stand and fall together in the test of the promise; without it the image is one",
        examples=["part-17"],
    )


class AnswerRequest(AnswerOptions):
    """The JSON body."""

    image: str = Field(
        min_length=1,
        description="data URI or plain base64 of a PNG, JPEG, WebP, BMP or TIFF file; an https "
        "URL only of a host that the operator allows",
        examples=["data:image/png;base64,iVBORw0KGgo..."],
    )


class AnswerForm(AnswerOptions):
    """The multipart body, for the OpenAPI document."""

    image: str = Field(description="the file", json_schema_extra={"format": "binary"})


class MissingPart(BaseModel):
    """A part that could not be had."""

    missing: str = Field(description="why", examples=["not_requested"])


class Risk(BaseModel):
    """Calibrated probability that the answer is wrong."""

    score: float | None
    status: str = Field(description="ok, or why there is no score")
    accept_below: float | None
    reject_above: float | None


class ProbeSignal(BaseModel):
    """The probe on the model's hidden states."""

    logit: float
    layers: list[int]


class ConfidenceSignal(BaseModel):
    """The model's own confidence in its words."""

    mean_logprob: float
    first_token_entropy: float
    margin: float


class ConsistencySignal(BaseModel):
    """How often sampled answers agree."""

    agreement: float
    samples: int
    stopped_early: bool


class AttentionSignal(BaseModel):
    """Concentration of the attention to the image: shown for comparison, never decided on."""

    spatial_entropy: float
    top30_mass: float
    image_mass: float
    clusters: int
    role: Literal["comparison_only"] = "comparison_only"


class EvidenceSignal(BaseModel):
    """What the answer owes to the image: it is asked for again with parts of the image away.

    A drop is the answer's log-probability with the whole image minus that without the part, in
    nats; flipped says that another answer is given then.
    """

    logprob_drop_blank: float = Field(description="the whole image blanked")
    flipped_blank: bool
    logprob_drop_top30: float = Field(description="its 30 % most attended patches masked")
    flipped_top30: bool
    logprob_drop_random30: float = Field(description="30 % of its patches masked, at random")
    flipped_random30: bool


class ImageDomainSignal(BaseModel):
    """Whether one image, as the model read it, looks like those of calibration."""

    distance: float
    inside: bool


class QuestionDomainSignal(BaseModel):
    """Whether the question is one of those that the gate was trained on."""

    surprise: float = Field(description="of its least expected word, bits")
    inside: bool
    mode: QuestionMode = Field(
        description="any: a bounded surprise; template, exact: a training question, with or "
        "without other values in its slots"
    )


class DomainSignal(BaseModel):
    """Whether the request looks like what the gate was trained and calibrated on."""

    distance: float = Field(description="of the image that is furthest away")
    inside: bool = Field(description="every image and the question")
    part: DomainPart | None = Field(None, description="which side is outside")
    images: list[ImageDomainSignal] = Field(default_factory=list)
    question: QuestionDomainSignal | MissingPart = MissingPart(missing="no_question_side")


class AnswerFormSignal(BaseModel):
    """Whether the answer is one that a person could mean."""

    degenerate: Literal["empty", "not_words", "repeats"] | None = Field(
        description="why it is none; null where it is one"
    )


class ImageSignal(BaseModel):
    """Whether the image's file is as it was written."""

    damaged: bool
    detail: str = Field(description="what is wrong with it; empty where nothing is")


class QuestionKindSignal(BaseModel):
    """The kind of question, told from its words, where the risk weighs its signals by kind."""

    kind: str


class SignalsBody(BaseModel):
    """Every signal: its numbers, or why it is missing."""

    hidden_state_probe: ProbeSignal | MissingPart
    token_confidence: ConfidenceSignal | MissingPart
    self_consistency: ConsistencySignal | MissingPart
    attention: AttentionSignal | MissingPart
    evidence: EvidenceSignal | MissingPart
    domain: DomainSignal | MissingPart
    image: ImageSignal | MissingPart = MissingPart(missing="not_measured")
    question_kind: QuestionKindSignal | MissingPart = MissingPart(missing="not_measured")
    answer_form: AnswerFormSignal | MissingPart = MissingPart(missing="not_measured")


class CertificateBody(BaseModel):
    """The promise that the decision rests on."""

    id: str
    valid: bool
    alpha: float
    delta: float
    n: int
    expires: str
    scope: Scope = Field(
        description="whose answers it is about: all, those of the slice (own), or those of several "
        "slices too small for a test of their own (pooled: this slice alone may err more)"
    )
    test: str = Field(description="betting, or binomial in certificates of the old kind")
    unit: str = Field(
        description="what was taken as independent: group; or image, in one of the old kind, and "
        "where answers of the evidence named no group: then frames of one scene counted as many"
    )
    old_kind: bool = Field(
        description="made before groups were tested whole: it says nothing of images that get more "
        "questions and err more; certify again"
    )
    estimand: str = Field(
        description="what is at most alpha: accepted_answer, the share of wrong answers among "
        "accepted ones; random_question_of_random_image (old kind), which weighs images alike"
    )
    most_per_group: int = Field(description="answers of a group that counted")
    groups: int | None = Field(description="groups tested; null in one of the old kind")
    level: float | None = Field(description="its share of delta; null in one of the old kind")


class ModelBody(BaseModel):
    """Which model answered."""

    name: str
    revision: str


class Timing(BaseModel):
    """Where the time went."""

    queue_seconds: float
    generate_seconds: float
    total_seconds: float


class AnswerResponse(BaseModel):
    """An answer, its risk, and what to do with it."""

    id: str
    answer: str
    decision: Verdict
    reason: Reason
    risk: Risk
    signals: SignalsBody
    certificate: CertificateBody | MissingPart
    model: ModelBody
    bundle: str
    mode: Literal["enforce", "shadow"] = Field(description="shadow: do not act on it")
    timing: Timing
