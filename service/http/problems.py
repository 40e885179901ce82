"""Turns errors into RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service.errors import (
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    QuotaSpent,
    ServiceError,
    TooLarge,
    TooLate,
    Unauthorized,
    Unavailable,
    UnsupportedType,
    mend,
)


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
    """Give Starlette's own errors (unknown path, wrong method) the same shape."""
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
    """Give a query parameter that does not validate the same shape."""
    assert isinstance(error, RequestValidationError)
    first: ErrorDetails = error.errors()[0]
    field = str(first["loc"][1]) if len(first["loc"]) > 1 else "query"
    told = Invalid(mend(first, field), field=field, kind="invalid_field")
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
