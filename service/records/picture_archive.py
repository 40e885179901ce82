"""Stores the images of answers that a person may look at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog

from service.records.errors import ImageArchiveError
from service.records.images import ImageArchive

log = structlog.get_logger("service.records.picture_archive")
MOST_BYTES = 128 * 1024 * 1024
"""Images waiting in memory; one more is lost, and counted."""


class PictureArchive:
    """Writes images on a thread of its own; nobody waits for it.

    Args:
        url: see :class:`~service.records.images.ImageArchive`.
        on_lost: called for each image that is lost, from any thread.

    Raises ImageArchiveError: the URL cannot be used.
    """

    def __init__(self, url: str, on_lost: Callable[[], None]) -> None:
        self._images = ImageArchive(url)
        self._on_lost = on_lost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._waiting_bytes = 0

    def submit(self, created: datetime, image_sha256: str, file: bytes) -> None:
        """Keep an image's file under its hash, if there is room to wait."""
        size = len(file)
        with self._lock:
            if self._waiting_bytes + size > MOST_BYTES:
                self._on_lost()
                return
            self._waiting_bytes += size
        self._thread.submit(self._keep, created, image_sha256, file)

    def delete_before(self, cutoff: datetime) -> int:
        """See :meth:`service.records.images.ImageArchive.delete_before`."""
        return self._images.delete_before(cutoff)

    def close(self) -> None:
        """Write what still waits, then stop."""
        self._thread.shutdown()

    def _keep(self, created: datetime, image_sha256: str, file: bytes) -> None:
        try:
            self._images.keep(created, image_sha256, file)
        except ImageArchiveError as error:
            self._on_lost()
            log.warning("image_not_kept", detail=str(error))
        except Exception:  # storage behind fsspec raises what it likes: the edge of a thread
            self._on_lost()
            log.exception("image_not_kept")
        finally:
            with self._lock:
                self._waiting_bytes -= len(file)
