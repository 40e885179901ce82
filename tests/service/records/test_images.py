from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from service.records.errors import ImageArchiveError
from service.records.images import ImageArchive

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATA = b"\x89PNG..."
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture(params=["folder", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> ImageArchive:
    """An empty archive in a folder, and one behind another of fsspec's file systems."""
    folder = tmp_path / "images"
    return ImageArchive(str(folder) if request.param == "folder" else f"memory:/{folder}")


def test_an_image_reads_back(archive: ImageArchive) -> None:
    assert archive.read(DAY, DIGEST) is None
    archive.keep(DAY, DIGEST, DATA)
    archive.keep(DAY, DIGEST, DATA)
    assert archive.read(DAY.replace(hour=1), DIGEST) == DATA
    assert archive.read(DAY.replace(day=2), DIGEST) is None


def test_days_before_the_cutoff_are_deleted(archive: ImageArchive) -> None:
    assert archive.delete_before(DAY) == 0
    for day in (1, 2, 3):
        archive.keep(DAY.replace(day=day), DIGEST, DATA)
    assert archive.delete_before(DAY.replace(day=3)) == 2
    assert archive.read(DAY.replace(day=2), DIGEST) is None
    assert archive.read(DAY.replace(day=3), DIGEST) == DATA


def test_only_folders_of_days_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "1999-notes").mkdir()
    (tmp_path / "readme").write_text("mine")
    assert ImageArchive(str(tmp_path)).delete_before(DAY) == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "AB" * 32, DIGEST + "/x"])
def test_what_is_no_digest_is_no_path(archive: ImageArchive, digest: str) -> None:
    with pytest.raises(ImageArchiveError, match="SHA-256"):
        archive.keep(DAY, digest, DATA)


def test_a_storage_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    archive = ImageArchive(str(tmp_path / "file"))
    with pytest.raises(ImageArchiveError, match="not kept"):
        archive.keep(DAY, DIGEST, DATA)
    with pytest.raises(ImageArchiveError, match="cannot be kept"):
        ImageArchive("nothing-like-this://bucket")
