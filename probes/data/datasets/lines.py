"""Files of one JSON object per line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from probes.data.datasets.example import Example
from probes.errors import DataError

Parse = Callable[[Mapping[str, Any], int], Example]
"""A record and its line number to an example; raises DataError."""


def read_lines(path: Path, parse: Parse) -> Iterator[tuple[str, Example | DataError]]:
    """Read every line that is not blank. Raises DataError when the file cannot be read."""
    for line, raw in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not raw.strip():
            continue
        where = f"line {line}"
        try:
            yield where, parse(_object(raw), line)
        except DataError as error:
            yield where, error


def read_bytes(path: Path) -> bytes:
    """Read a whole file as UTF-8; a file with a byte order mark may be UTF-16 too.

    Raises DataError when it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    utf_32 = content[:4].count(0) > 1
    if not utf_32 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16", "surrogatepass").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: no whole UTF-16 ({error}); save it as UTF-8") from error
    if b"\0" in content[:4]:
        raise DataError(f"{path}: neither UTF-8 nor marked as UTF-16; save it as UTF-8")
    return content.removeprefix(codecs.BOM_UTF8)


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
