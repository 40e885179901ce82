"""Translates between the OpenAI shape and the gate's own question and answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from service.errors import Invalid
from service.schemas.answer import AnswerRequest, AnswerResponse
from service.schemas.chat import ChatRequest, Choice, Completion, Reliability, Said


class Located(NamedTuple):
    """A value and the name of its field in the request."""

    field: str
    value: str


def locate(asked: ChatRequest) -> tuple[Located, Located]:
    """Find the question and the image in a request.

    Raises:
        Invalid: not one user message with one text and one image.
    """
    if (asked.stream_options or {}).get("include_usage"):
        raise _refused(
            "stream_options.include_usage",
            "the engine does not count the prompt's tokens; leave it out",
        )
    for number, message in enumerate(asked.messages):
        if message.role != "user":
            raise _refused(
                f"messages.{number}.role",
                f"{message.role!r} messages are not read: the gate was certified on bare "
                "questions; put everything into one user message",
            )
    if len(asked.messages) > 1:
        raise _refused(
            "messages", "there are several user messages; a request is one question: send one"
        )
    return _one_part(asked, "text", "question"), _one_part(asked, "image_url", "image")


def _one_part(asked: ChatRequest, kind: Literal["text", "image_url"], what: str) -> Located:
    found = [
        (f"messages.0.content.{number}.{kind}", part)
        for number, part in enumerate(asked.messages[0].content)
        if part.type == kind
    ]
    if len(found) != 1:
        count = "no" if not found else f"{len(found)}"
        raise _refused(
            "messages.0.content",
            f"there are {count} parts of type {kind!r}; send exactly one {what}",
        )
    field, part = found[0]
    if kind == "text" and part.text is not None:
        return Located(field=field, value=part.text)
    if kind == "image_url" and part.image_url is not None:
        return Located(field=f"{field}.url", value=part.image_url.url)
    raise _refused(field, f"it is missing; send the {what} there")


def _refused(field: str, why: str) -> Invalid:
    return Invalid(f"'{field}': {why}", field=field, kind="not_supported")


def to_answer_request(asked: ChatRequest, question: str, image: str) -> AnswerRequest:
    """The same question in the gate's own shape. Raises pydantic's ValidationError."""
    return AnswerRequest(
        question=question,
        image=image,
        self_consistency=asked.self_consistency,
        samples=asked.samples,
        evidence=asked.evidence,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        metadata=asked.metadata or {},
        group=asked.group,
    )


def to_completion(
    answer: AnswerResponse, finish_reason: Literal["stop", "length"], created: int
) -> Completion:
    """The gate's own response as a completion that is not streamed.

    Args:
        created: Unix time, seconds.
    """
    return Completion(
        id=answer.id,
        created=created,
        model=answer.model.name,
        system_fingerprint=answer.bundle,
        choices=[Choice(message=Said(content=answer.answer), finish_reason=finish_reason)],
        reliability=_reliability(answer),
    )


def _reliability(answer: AnswerResponse) -> Reliability:
    """The part of an answer that the OpenAI shape has no place for."""
    return Reliability.model_construct(
        **{name: getattr(answer, name) for name in Reliability.model_fields}
    )


class Chunks:
    """The events of one streamed completion."""

    def __init__(self, request_id: str, model: str, bundle: str, created: int) -> None:
        self._head = {
            "id": request_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": bundle,
        }

    def text(self, answer: str) -> Iterator[dict[str, Any]]:
        """The role, then the whole answer: engines give it at once."""
        yield self._chunk({"role": "assistant", "content": ""}, None)
        yield self._chunk({"content": answer}, None)

    def last(self, answer: AnswerResponse, finish_reason: str) -> dict[str, Any]:
        """The last event, with the answer's reliability."""
        told = _reliability(answer).model_dump(mode="json")
        return self._chunk({}, finish_reason) | {"reliability": told}

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._head | {"choices": [choice]}
