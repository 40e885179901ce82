"""Parses a JSON body into a model, and bounds how much there is in it before it builds anything.

A body may hold one long text, an image in base64, and beside it only what a question can need: so
few marks, names and digits that reading them takes hardly any time. A name that appears twice in an
object is refused (RFC 8259, section 4, leaves its meaning open).
"""

from __future__ import annotations

import json
import secrets
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import Invalid, Malformed, ServiceError

MARKS = 16_384
"""Most quotes, commas, colons and brackets: a question of 2,000 characters may be made of them."""
NAMES = 256
"""Most names, of all objects together."""
NAME_CHARACTERS = 256
DIGITS = 400
"""Most characters of a number."""
ESCAPES = 20
"""One byte in so many may be a backslash: some write ``\\/`` for a slash, some wrap base64."""
HIGH_BYTES = 65_536
"""Most bytes beyond ASCII: an image has none, and a question few."""
_SLICE = 1 << 16
_MARKS = b'{}[],:"'
_TEXT = bytes(sorted(set(range(33, 127)) - set(b'"\\')))
_PLAIN = bytes(sorted(set(_TEXT) - set(_MARKS)))
_ASCII = bytes(range(128))
Model = TypeVar("Model", bound=BaseModel)


def read_model(model: type[Model], body: bytes) -> Model:
    """Validate a body as a model, strictly. Raises Malformed and Invalid."""
    try:
        return model.model_validate(read_json(body), strict=True)
    except ValidationError as error:
        raise Invalid.from_validation(error) from error


def read_json(body: bytes) -> Any:
    """Parse a JSON text. Raises Malformed, and Invalid for a name that appears twice."""
    begin, end = _bound(body)
    short, reader = body, _Reader()
    if end > begin:
        short, reader.long = _cut(body, begin, end)
    try:
        return json.loads(
            short.strip().decode(),
            object_pairs_hook=reader.object,
            parse_int=reader.integer,
            parse_float=reader.number,
            parse_constant=reader.constant,
        )
    except (ValueError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise _malformed(str(said)) from error


def writable(text: str) -> bool:
    """Whether a text can be encoded: JSON can write half of a surrogate pair, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bound(body: bytes) -> tuple[int, int]:
    """Count marks slice by slice, so that other threads get their turn.

    Gives where slices that hold nothing but other visible characters begin and end that lie one
    after the other, the most of them.
    Raises Malformed.
    """
    marks = escapes = high = free = longest = 0
    last = (0, 0)
    for begin in range(0, len(body), _SLICE):
        found = body[begin : begin + _SLICE].translate(None, _PLAIN)
        high += len(found.translate(None, _ASCII))
        escapes += found.count(b"\\")
        marks += len(found) - len(found.translate(None, _MARKS))
        few_escapes = escapes <= MARKS + len(body) // ESCAPES
        if marks > MARKS or high > HIGH_BYTES or not few_escapes:
            raise _malformed("there is more in it than a question can have")
        if found:
            free = begin + _SLICE
        elif begin + _SLICE - free > longest:
            longest, last = begin + _SLICE - free, (free, begin + _SLICE)
    return last


def _cut(body: bytes, begin: int, end: int) -> tuple[bytes, tuple[str, str]]:
    """Replace a long text by a word that nobody can guess, and give both.

    json holds the interpreter until it has read all of a text. Only characters that can stand in a
    text and nowhere else, between two quotes, are taken out: invalid JSON stays invalid.
    """
    first, last = body.rfind(b'"', 0, begin) + 1, body.find(b'"', end)
    if not first or last < 0 or not (_text(body, first, begin) and _text(body, end, last)):
        return body, ("", "")
    word = secrets.token_hex()
    with memoryview(body)[first:last] as text:
        return body[:first] + word.encode() + body[last:], (word, str(text, "ascii"))


def _text(body: bytes, begin: int, end: int) -> bool:
    """Whether nothing stands there but what can stand in a text and nowhere else."""
    slices = (body[at : min(at + _SLICE, end)] for at in range(begin, end, _SLICE))
    return not any(piece.translate(None, _TEXT) for piece in slices)


class _Reader:
    """Builds objects while it counts their names."""

    def __init__(self) -> None:
        self._names = 0
        self.long = "", ""
        """The word that stands for the long text in what is read, and the text."""

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object. Raises ServiceError, which json lets through."""
        self._names += len(pairs)
        if self._names > NAMES:
            raise _malformed(f"it has more than {NAMES} names")
        word, text = self.long
        if text:
            pairs = [(text if n == word else n, text if v == word else v) for n, v in pairs]
        built = dict(pairs)
        for name in built:
            if len(name) > NAME_CHARACTERS:
                raise _malformed(f"a name in it has more than {NAME_CHARACTERS} characters")
            if not writable(name):
                raise _malformed("a name in it holds half of a surrogate pair")
        if len(built) < len(pairs):
            _refuse_twice([name for name, _ in pairs])
        return built

    def integer(self, digits: str) -> int:
        """A whole number."""
        return int(_short(digits))

    def number(self, digits: str) -> float:
        """Any other number."""
        return float(_short(digits))

    def constant(self, name: str) -> NoReturn:
        """NaN and Infinity, which Python knows and JSON does not."""
        raise _malformed(f"{name} is no JSON")


def _refuse_twice(names: list[str]) -> NoReturn:
    twice = next(name for number, name in enumerate(names) if name in names[:number])[:64]
    raise Invalid(f"'{twice}' was sent twice; send it once", field=twice, kind="invalid_field")


def _short(digits: str) -> str:
    if len(digits) > DIGITS:
        raise _malformed(f"a number in it has more than {DIGITS} digits")
    return digits


def _malformed(why: str) -> ServiceError:
    return Malformed(
        f"the body is not JSON that can be read: {why}; send one JSON object",
        field="body",
        kind="malformed_json",
    )
