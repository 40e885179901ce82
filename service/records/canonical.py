"""One way only to write a value down, so that a hash means something on every database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from service.records.errors import InvalidRecord

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def canonical_json(value: Any) -> str:
    """JSON in ASCII with sorted keys and no spaces.

    Raises:
        ValueError: a number is not finite.
        TypeError: a value has no JSON.
    """
    return _encode(value)


def plain(name: str, value: Any) -> Any:
    """The value as every database gives it back: characters that text columns refuse are replaced.

    Raises:
        InvalidRecord: a value has no JSON, or is not finite.
    """
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        try:
            text = canonical_json(dict(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRecord(f"{name}: {error}; send finite numbers and text only") from error
        return _storable_parts(json.loads(text)) if "\\u" in text else json.loads(text)
    return value


def microseconds(when: datetime) -> int:
    """Microseconds since 1970 (UTC).

    Raises:
        InvalidRecord: the time has no time zone.
    """
    if when.tzinfo is None:
        raise InvalidRecord(f"created: {when} has no time zone; use datetime.now(UTC)")
    return (when - EPOCH) // timedelta(microseconds=1)


def moment(microseconds_since_epoch: int) -> datetime:
    """The time, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds_since_epoch)


def storable(text: str) -> str:
    """Text without NUL and without half a surrogate pair: PostgreSQL takes neither."""
    if text.isascii():
        return text.replace("\x00", "\ufffd")
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\x00", "\ufffd")


def _storable_parts(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _storable_parts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_storable_parts(part) for part in value]
    return value
