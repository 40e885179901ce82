"""A file that may be replaced while the service runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger("service.access.watched_file")
Value = TypeVar("Value")


class WatchedFile(Generic[Value]):
    """Reads a file again once its time, size or place on the disk has changed.

    If the new content cannot be used, that is logged once and the old content stays in force.

    Args:
        path: the file.
        parse: reads it; raises ``broken`` when it cannot be used.
        broken: what ``parse`` raises; raised here too when the first reading fails.
    """

    def __init__(self, path: Path, parse: Callable[[Path], Value], broken: type[Exception]) -> None:
        self._path, self._parse, self._broken = path, parse, broken
        self._seen = self._look()
        self._value = parse(path)

    def value(self) -> Value:
        """What is in force."""
        now = self._look()
        if now != self._seen:
            self._seen = now
            try:
                self._value = self._parse(self._path)
            except self._broken as error:
                log.error("old_file_kept", detail=str(error))
            else:
                log.info("file_read_again", path=str(self._path))
        return self._value

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
