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

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # what decodes images in a process of its own needs the tree, and not these
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


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
    def from_validation(cls, error: ValidationError) -> Invalid:
        """The first thing that a schema found wrong, with its mend."""
        first = error.errors(include_url=False, include_context=True, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        return cls(mend(first, field), field=field, kind="invalid_field")


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


def mend(error: ErrorDetails, field: str) -> str:
    """One sentence for the caller: what is wrong with ``field`` and what to do."""
    if error["type"] == "missing":
        return f"'{field}' is missing; send it"
    if error["type"] == "extra_forbidden":
        if field in {"image_url", "url"}:
            return f"'{field}' is not accepted; send the image in 'image' only"
        return f"'{field}' is not an option; remove it (GET /docs lists the options)"
    return f"'{field}': {error['msg']}; correct it and send the request again"
