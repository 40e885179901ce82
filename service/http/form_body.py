"""Parses a multipart body into its fields, in memory and within bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import Malformed

FIELDS = 16
FIELD_BYTES = 256 * 1024
"""Most bytes of a field that is no file."""
Result = TypeVar("Result")
Field = tuple[str, str | bytes]
"""A name, and a text or the bytes of a file."""


class _InMemory(MultiPartParser):
    """Keeps uploads in memory, which the body's limit bounds: no image ever touches the disk.

    Nothing is written to the files that the parser opens.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pieces: dict[UploadFile, list[bytes]] = {}

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Called by the parser, once for a file that came whole."""
        file = self._current_part.file
        if file is None:
            super().on_part_data(data, start, end)
        else:
            self._pieces.setdefault(file, []).append(data[start:end])

    def value(self, sent: UploadFile | str) -> str | bytes:
        """A text, or the bytes of a file; one piece is not copied."""
        return sent if isinstance(sent, str) else b"".join(self._pieces.get(sent, ()))


def read_form(content_type: str, body: bytes) -> list[Field]:
    """The fields in their order. Raises Malformed."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    async def parse() -> list[Field]:
        headers = Headers({"content-type": content_type})
        parser = _InMemory(
            headers, stream(), max_files=FIELDS, max_fields=FIELDS, max_part_size=FIELD_BYTES
        )
        form = await parser.parse()
        try:
            return [(name, parser.value(value)) for name, value in form.multi_items()]
        finally:
            for file in parser._files_to_close_on_error:  # also one that the body's end cut off
                file.close()

    try:
        return _at_once(parse())
    except (MultiPartException, UnicodeError) as error:
        raise Malformed(
            f"the multipart body cannot be read: {error}; send it as an HTTP client's form upload",
            field="body",
            kind="malformed_multipart",
        ) from error


def _at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """Run what never waits, on any thread: nothing here does, all of it being in memory."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    work.close()
    raise AssertionError("the form's parser waited for something")
