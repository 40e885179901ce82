"""Files of one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from probes.datasets.example import Example
from probes.errors import DataError

Parse = Callable[[Mapping[str, Any], int], Example]
"""A record and its line number to an example; raises DataError."""


def read_lines(path: Path, parse: Parse) -> Iterator[tuple[str, Example | DataError]]:
    """Every line that is not blank. Raises DataError when the file cannot be read."""
    for line, raw in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not raw.strip():
            continue
        where = f"line {line}"
        try:
            yield where, parse(_object(raw), line)
        except DataError as error:
            yield where, error


def read_bytes(path: Path) -> bytes:
    """A whole file, without a byte order mark. Raises DataError when it cannot be read."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DataError("not a JSON object")
    check_writable(record)
    return record


def check_writable(record: Any) -> None:
    """Raise DataError for half of a surrogate pair: JSON can write it, and no text holds it."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError("holds half of a surrogate pair; write whole characters") from error
