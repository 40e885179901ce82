"""Images of answers that a person may look at, on their way to where they are kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog

from service.images.picture import Picture
from service.observe.telemetry import Telemetry
from service.records.errors import ImageArchiveError
from service.records.images import ImageArchive

log = structlog.get_logger("service.records.picture_archive")
MOST_BYTES = 128 * 1024 * 1024
"""Images waiting in memory; one more is lost, and counted."""


class PictureArchive:
    """Writes images on a thread of its own; nobody waits for it.

    Args:
        url: see :class:`~service.records.images.ImageArchive`.
        telemetry: counts the losses.

    Raises ImageArchiveError: the URL cannot be used.
    """

    def __init__(self, url: str, telemetry: Telemetry) -> None:
        self._images = ImageArchive(url)
        self._lost = telemetry.images_dropped
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._waiting_bytes = 0

    def submit(self, created: datetime, picture: Picture) -> None:
        """Keep an image, if there is room to wait."""
        size = len(picture.file)
        with self._lock:
            if self._waiting_bytes + size > MOST_BYTES:
                self._lost.inc()
                return
            self._waiting_bytes += size
        self._thread.submit(self._keep, created, picture.sha256, picture.file)

    def delete_before(self, cutoff: datetime) -> int:
        """See :meth:`service.records.images.ImageArchive.delete_before`."""
        return self._images.delete_before(cutoff)

    def close(self) -> None:
        """Finish what waits."""
        self._thread.shutdown()

    def _keep(self, created: datetime, image_sha256: str, file: bytes) -> None:
        try:
            self._images.keep(created, image_sha256, file)
        except ImageArchiveError as error:
            self._lost.inc()
            log.warning("image_not_kept", detail=str(error))
        except Exception:  # storage behind fsspec raises what it likes: the edge of a thread
            self._lost.inc()
            log.exception("image_not_kept")
        finally:
            with self._lock:
                self._waiting_bytes -= len(file)
