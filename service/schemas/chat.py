"""The OpenAI shape of a question and its answer. It refuses by name what the gate cannot do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from probes.types import ConsistencyMode, Reason, Verdict
from service.schemas.answer import (
    MAX_SAMPLES,
    MAX_TOKENS,
    CertificateBody,
    MissingPart,
    Risk,
    SignalsBody,
)

MAX_PARTS = 64
"""Most messages, and most parts of one: more are not looked at to tell what is wrong with them."""


def _only(value: object, why: str) -> AfterValidator:
    """A field that may be left out, null or ``value``."""

    def check(given: object) -> object:
        if given is not None and given != value:
            raise PydanticCustomError("not_supported", "{why}", {"why": why})
        return given

    return AfterValidator(check)


def _parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImageUrl(_Strict):
    """The image."""

    url: str = Field(description="data URI of a PNG, JPEG, WebP, BMP or TIFF file")
    detail: Annotated[
        Any, _only("auto", "every image is seen in the model's one resolution; leave it out")
    ] = None


class Part(_Strict):
    """A part of the message: the question, or the image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Message(_Strict):
    """What the user says."""

    role: str = Field(description="user")
    content: Annotated[list[Part], Field(max_length=MAX_PARTS), BeforeValidator(_parts)]
    name: str | None = None


class ChatRequest(_Strict):
    """``POST /v1/chat/completions``: one user message with one text and one image.

    What the answer does not depend on is accepted (``seed``: answers are greedy; ``user``); what
    it would depend on and cannot is refused.
    """

    model: str = Field(description="the name that GET /v1/models gives")
    messages: list[Message] = Field(min_length=1, max_length=MAX_PARTS)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    stream: bool | None = None
    stream_options: dict[str, bool] | None = None
    metadata: dict[str, str] | None = None
    group: str | None = None
    seed: int | None = None
    user: str | None = None
    n: Annotated[Any, _only(1, "a request has one answer; send 1 or leave it out")] = None
    temperature: Annotated[
        Any, _only(0, "answers are greedy, as they were certified; send 0 or leave it out")
    ] = None
    top_p: Annotated[Any, _only(1, "answers are greedy; send 1 or leave it out")] = None
    stop: Annotated[Any, _only(None, "answers end where the model ends them; leave it out")] = None
    tools: Annotated[Any, _only([], "the model calls no tools; leave it out")] = None
    functions: Annotated[Any, _only([], "the model calls no functions; leave it out")] = None
    tool_choice: Annotated[Any, _only("none", "the model calls no tools; leave it out")] = None
    logprobs: Annotated[
        Any, _only(False, "token probabilities are in reliability.signals; leave it out")
    ] = None
    response_format: Annotated[Any, _only({"type": "text"}, "answers are text; leave it out")] = (
        None
    )
    frequency_penalty: Annotated[Any, _only(0, "answers are greedy; leave it out")] = None
    presence_penalty: Annotated[Any, _only(0, "answers are greedy; leave it out")] = None
    store: Annotated[Any, _only(False, "no completion is stored; leave it out")] = None
    self_consistency: ConsistencyMode | None = None
    samples: int | None = Field(None, ge=1, le=MAX_SAMPLES)
    evidence: bool = False


class Reliability(BaseModel):
    """What is thought of the answer: the fields of ``POST /v1/answer`` under the same names."""

    decision: Verdict
    reason: Reason
    risk: Risk
    signals: SignalsBody
    certificate: CertificateBody | MissingPart
    mode: Literal["enforce", "shadow"] = Field(description="shadow: do not act on it")


class Said(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one choice."""

    index: Literal[0] = 0
    message: Said
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """A completion that is not streamed. ``usage`` is left out: nobody counts the prompt."""

    id: str = Field(description="the answer's id, also for POST /v1/outcomes")
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str = Field(description="the bundle")
    choices: list[Choice]
    reliability: Reliability
