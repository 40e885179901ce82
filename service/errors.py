"""What the service says when it does not answer, as one small tree.

ServiceError              an RFC 9457 problem document: status, kind, field, detail
├── Malformed        400  the body cannot be parsed, or a key stands in the URL
├── Unauthorized     401  no key, or one that does not hold
├── Forbidden        403  a key without the scope, or a foreign web page
├── NotFound         404  what was asked for by name is not here
├── TooLarge         413  too many bytes or pixels
├── UnsupportedType  415  a body or image type that is not read
├── Invalid          422  a field's value, or an image that cannot be decoded
├── QuotaSpent       429  the caller asks more often than it may
├── Unavailable      503  not ready yet, draining, or the engine failed
│   └── Overloaded        the queue is full
└── TooLate          504  the deadline passed

``kind`` is a word from a small set: it is the problem's type and the metric's label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response


class ServiceError(Exception):
    """An answer that is not given, told as a problem document.

    Args:
        detail: what is wrong and what to do about it, for the caller.
        field: the request's field that is at fault, if one is.
        kind: which problem, a snake_case word.
        retry_after: seconds after which trying again makes sense.
        challenge: value of WWW-Authenticate.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        kind: str = "internal_error",
        retry_after: int | None = None,
        challenge: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.kind = kind
        self.retry_after = retry_after
        self.challenge = challenge


class Malformed(ServiceError):
    """The body cannot be parsed."""

    status, title = 400, "Malformed request"


class Unauthorized(ServiceError):
    """No key, or one that does not hold."""

    status, title = 401, "Unauthorized"


class Forbidden(ServiceError):
    """A key without the scope, or a foreign web page."""

    status, title = 403, "Forbidden"


class NotFound(ServiceError):
    """What was asked for by name is not here."""

    status, title = 404, "Not found"


class TooLarge(ServiceError):
    """Too many bytes or pixels."""

    status, title = 413, "Too large"


class UnsupportedType(ServiceError):
    """A body or image type that is not read."""

    status, title = 415, "Unsupported type"


class Invalid(ServiceError):
    """A field's value is not allowed, or an image cannot be decoded."""

    status, title = 422, "Invalid request"

    @classmethod
    def from_validation(cls, error: ValidationError) -> Invalid | Malformed:
        """The first thing that a schema found wrong, with its mend."""
        first = error.errors(include_url=False, include_context=True, include_input=False)[0]
        if first["type"] == "json_invalid":
            return Malformed(
                f"the body is not JSON that can be read: {first['msg']}; send one JSON object",
                field="body",
                kind="malformed_json",
            )
        field = ".".join(str(part) for part in first["loc"]) or "body"
        return cls(_mend(first, field), field=field, kind="invalid_field")


class QuotaSpent(ServiceError):
    """The caller asks more often than it may."""

    status, title = 429, "Too many requests"


class Unavailable(ServiceError):
    """Not ready yet, draining, or the engine failed."""

    status, title = 503, "Unavailable"


class Overloaded(Unavailable):
    """The queue is full."""

    title = "Overloaded"


class TooLate(ServiceError):
    """The deadline passed before there was an answer."""

    status, title = 504, "Deadline exceeded"


def _mend(error: ErrorDetails, field: str) -> str:
    """One sentence for the caller: what is wrong with ``field`` and what to do."""
    if error["type"] == "missing":
        return f"'{field}' is missing; send it"
    if error["type"] == "extra_forbidden":
        if field in {"image_url", "url"}:
            return f"'{field}' is not accepted; send the image in 'image' only"
        return f"'{field}' is not an option; remove it (GET /docs lists the options)"
    return f"'{field}': {error['msg']}; correct it and send the request again"


def problem_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The problem document (RFC 9457) of an error."""
    body: dict[str, Any] = {
        "type": f"urn:vlm-gate:problem:{error.kind}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": f"urn:ulid:{request_id}",
    }
    if error.field is not None:
        body["field"] = error.field
    return body


def problem(error: ServiceError, request_id: str) -> Response:
    """The problem document of an error, as a response."""
    body = problem_body(error, request_id)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.challenge is not None:
        headers["www-authenticate"] = error.challenge
    return JSONResponse(body, error.status, headers, media_type="application/problem+json")


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    request.state.kind = error.kind
    return problem(error, request.state.id)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors (unknown path, wrong method), in the same shape."""
    assert isinstance(error, HTTPException)
    told = {
        404: ("not_found", "there is nothing at this path; GET /docs lists what there is"),
        405: ("method_not_allowed", "this path does not take this method; GET /docs lists them"),
    }
    kind, detail = told.get(error.status_code, ("http_error", str(error.detail)))
    request.state.kind = kind
    body = {
        "type": f"urn:vlm-gate:problem:{kind}",
        "title": str(error.detail),
        "status": error.status_code,
        "detail": detail,
        "instance": f"urn:ulid:{request.state.id}",
    }
    return JSONResponse(
        body, error.status_code, error.headers, media_type="application/problem+json"
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    """A query parameter that does not fit, in the same shape."""
    assert isinstance(error, RequestValidationError)
    first: ErrorDetails = error.errors()[0]
    field = str(first["loc"][1]) if len(first["loc"]) > 1 else "query"
    told = Invalid(_mend(first, field), field=field, kind="invalid_field")
    return await _service_error(request, told)


def install(app: FastAPI) -> None:
    """Turn every error that reaches the app into a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def problem_responses(statuses: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the problem documents of a route."""
    titles = {
        kind.status: kind.title
        for kind in (
            Malformed,
            Unauthorized,
            Forbidden,
            NotFound,
            TooLarge,
            UnsupportedType,
            Invalid,
            QuotaSpent,
            Unavailable,
            TooLate,
        )
    }
    schema = {
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what is wrong and what to do"},
            "instance": {"type": "string"},
            "field": {"type": "string", "description": "the request's field at fault"},
        },
    }
    return {
        status: {
            "description": titles[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }
