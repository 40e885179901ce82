"""Images kept for review, where the operator asked for it: a folder, or anything fsspec reaches."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from uuid import uuid4

import fsspec

from service.records.errors import ImageArchiveError

DIGEST = re.compile(r"[0-9a-f]{64}")


class ImageArchive:
    """Images by day and SHA-256. Every call waits for the storage: use a thread.

    Args:
        url: a folder's path, or a URL such as ``s3://bucket/prefix``.

    Raises:
        ImageArchiveError: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise ImageArchiveError(f"images cannot be kept at {url}: {error}") from error

    def keep(self, created: datetime, image_sha256: str, data: bytes) -> None:
        """Keep an image's file; the same one twice on a day is kept once.

        Raises:
            ImageArchiveError: the storage does not take it.
        """
        path = self._path(created, image_sha256)
        try:
            if self._files.exists(path):
                return
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            draft = f"{path}.{uuid4().hex}"  # a crash leaves no half image under the name
            self._files.pipe_file(draft, data)
            self._files.mv(draft, path)
        except OSError as error:
            raise ImageArchiveError(f"image {image_sha256} is not kept: {error}") from error

    def read(self, created: datetime, image_sha256: str) -> bytes | None:
        """The image's file, or None when it was not kept, or not for so long."""
        try:
            data: bytes = self._files.cat_file(self._path(created, image_sha256))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ImageArchiveError(f"image {image_sha256} cannot be read: {error}") from error
        return data

    def delete_before(self, cutoff: datetime) -> int:
        """Delete the days before the cutoff's day (UTC); returns how many days."""
        limit = cutoff.astimezone(UTC).date()
        try:
            folders = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return 0
        old = [folder for folder in folders if _is_before(folder, limit)]
        try:
            for folder in old:
                self._files.rm(folder, recursive=True)
        except OSError as error:
            raise ImageArchiveError(f"old images are not all deleted: {error}") from error
        return len(old)

    def _path(self, created: datetime, image_sha256: str) -> str:
        if not DIGEST.fullmatch(image_sha256):
            raise ImageArchiveError(f"image_sha256: {image_sha256!r} is not a SHA-256")
        return f"{self._root}/{created.astimezone(UTC).date().isoformat()}/{image_sha256}"


def _is_before(folder: str, limit: date) -> bool:
    try:
        return date.fromisoformat(folder.rstrip("/").rpartition("/")[2]) < limit
    except ValueError:
        return False  # not a folder of ours
