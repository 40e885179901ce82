"""Fetch a folder before the start, such as a model or a bundle, and check every byte of it.

The folder holds a ``SHA256SUMS`` as ``sha256sum`` writes it; the hash of that file names the whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
import httpx

from probes.atomic_write import replacing

SUMS = "SHA256SUMS"
PIECE_BYTES = 1 << 20


class FetchError(Exception):
    """It could not be fetched, or is not what was asked for. Names the file."""


def fetch(url: str, out: Path, sha256: str) -> int:
    """Bring a folder to ``out``, which is whole once its ``SHA256SUMS`` is there.

    Files that are there already and fit are kept, so that a fetch that was cut off goes on.

    Args:
        url: of the folder: ``s3://``, ``hf://``, ``https://``, a path, or what else fsspec reads
            (``s3://`` needs the package s3fs).
        out: folder; made if need be.
        sha256: of the folder's ``SHA256SUMS``, 64 hexadecimal digits.

    Returns the number of files fetched. Raises FetchError.
    """
    if (out / SUMS).is_file() and _hash((out / SUMS).read_bytes()) == sha256:
        sums = _parse((out / SUMS).read_text(encoding="utf-8"))
        if all(_fits(out / name, digest) for name, digest in sums.items()):
            return 0
    try:
        with _pieces(f"{url.rstrip('/')}/{SUMS}") as pieces:
            listed = b"".join(pieces)
        if (found := _hash(listed)) != sha256:
            raise FetchError(f"{url}/{SUMS}: its SHA-256 is {found}, not {sha256}")
        sums, fetched = _parse(listed.decode()), 0
        for name, digest in sums.items():
            if not _fits(out / name, digest):
                _bring(f"{url.rstrip('/')}/{name}", out / name, digest)
                fetched += 1
        (out / SUMS).write_bytes(listed)
    except (OSError, ValueError, ImportError, httpx.HTTPError) as error:
        raise FetchError(f"{url}: {error}") from error
    return fetched


@contextmanager
def _pieces(url: str) -> Iterator[Iterator[bytes]]:
    if url.startswith(("https://", "http://")):
        with httpx.stream("GET", url, follow_redirects=True) as response:
            response.raise_for_status()
            yield response.iter_bytes(PIECE_BYTES)
    else:
        with fsspec.open(url, "rb") as file:
            yield iter(lambda: file.read(PIECE_BYTES), b"")


def _bring(source: str, target: Path, digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    read = hashlib.sha256()
    with replacing(target) as draft:
        with _pieces(source) as pieces, draft.open("wb") as copy:
            for piece in pieces:
                read.update(piece)
                copy.write(piece)
        if read.hexdigest() != digest:
            raise FetchError(f"{source}: its SHA-256 is {read.hexdigest()}, {SUMS} says {digest}")


def _parse(text: str) -> Mapping[str, str]:
    """Name to digest. Raises FetchError for a line that is none, or a name that leads outside."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if found is None:
            raise FetchError(f"{SUMS}: {line!r} is no line of sha256sum")
        path = PurePosixPath(found.group(2))
        if path.is_absolute() or ".." in path.parts:
            raise FetchError(f"{SUMS}: {found.group(2)!r} leads outside of the folder")
        sums[str(path)] = found.group(1)
    if not sums:
        raise FetchError(f"{SUMS}: is empty")
    return sums


def _fits(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
