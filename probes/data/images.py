"""Reads images from a folder, a tar or a parquet file, each by one path.

An archive is named like a folder: ``val2014.tar/val2014/a.jpg``, ``images.parquet/a.jpg``. So one
path says where an image is, in a dataset, in a run and for a bundle's golden examples.
"""

from __future__ import annotations

import posixpath
import tarfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from probes.errors import DataError
from probes.pictures.container import Limits, PictureRefused
from probes.pictures.decoder import Decoded, decode
from probes.types import ImageArray

NO_LIMIT = 2**31
_NAME_COLUMNS = ("path", "image_path", "file_name", "name")


def load_image(path: Path) -> ImageArray:
    """Decode an image that was collected: RGB, uint8, shape (height, width, 3), upright.

    Raises DataError when it cannot be read or decoded.
    """
    return open_image(path, Limits(NO_LIMIT, NO_LIMIT)).pixels


def open_image(path: Path, limits: Limits) -> Decoded:
    """Decode an image file as the service does, and look for damage.

    Raises DataError when it cannot be read or decoded, or is over the limits.
    """
    try:
        return decode(read_image(path), limits)
    except PictureRefused as refused:
        raise DataError(f"image: {path.name} cannot be decoded ({refused.detail})") from refused


def read_image(path: Path) -> bytes:
    """The bytes of an image file, in an archive or not. Raises DataError when it is not there."""
    place = _archive_of(path)
    try:
        return path.read_bytes() if place is None else open_archive(place).read(_key(path, place))
    except OSError as error:
        raise DataError(f"image: {path} cannot be read ({error})") from error


def has_image(path: Path) -> bool:
    """Return whether a file or an archive's member exists. Raises as :func:`open_archive`."""
    place = _archive_of(path)
    if place is not None:
        return open_archive(place).has(_key(path, place))
    try:
        return path.is_file()
    except OSError:  # a name that no file can have: too long, say
        return False


def check_source(path: Path) -> None:
    """Raise DataError unless this is a folder, a tar or a parquet file to read images from."""
    if path.is_dir() or _archive_of(path) is not None:
        return
    if not path.is_file():
        raise DataError(f"images: {path} does not exist; give a folder, a .tar or a .parquet file")
    if path.suffix not in (".tar", ".parquet"):
        raise DataError(f"images: {path.name} is no folder, .tar or .parquet; unpack it")
    open_archive(path)


class TarImages:
    """Members of an uncompressed tar, read where they lie."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with tarfile.open(path, "r:") as tar:
                files = [one for one in tar if one.isreg() and not one.issparse()]
        except tarfile.TarError as error:
            raise DataError(f"images: {path.name} is no whole, plain tar ({error})") from error
        self._places = {_clean(one.name): (one.offset_data, one.size) for one in files}

    def has(self, name: str) -> bool:
        """Return whether the archive holds a file of this name."""
        return name in self._places

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        if name not in self._places:
            raise DataError(f"image: {name} is not in {self._path.name}")
        start, size = self._places[name]
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(size)


class ParquetImages:
    """Rows of a parquet file: encoded images with names.

    Either a struct column with the fields ``bytes`` and ``path`` (as Hugging Face datasets write
    their images), or a binary column ``bytes`` or ``image`` beside a text column ``path``,
    ``image_path``, ``file_name`` or ``name``. Of equal names the first row counts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._group: tuple[int, Any] = (-1, None)
        try:
            self._file = pq.ParquetFile(path)
            self._bytes, names = self._columns()
            self._places: dict[str, tuple[int, int]] = {}
            for group in range(self._file.num_row_groups):
                for row, name in enumerate(self._read(group, names).to_pylist()):
                    if name is not None:
                        self._places.setdefault(_clean(name), (group, row))
        except pa.ArrowException as error:
            raise DataError(f"images: {path.name} is no whole parquet file ({error})") from error

    def has(self, name: str) -> bool:
        """Whether a row has this name."""
        return name in self._places

    def read(self, name: str) -> bytes:
        """The row's bytes; one row group is kept in memory."""
        if name not in self._places:
            raise DataError(f"image: {name} is not in {self._path.name}")
        group, row = self._places[name]
        with self._lock:
            if self._group[0] != group:
                try:
                    self._group = (group, self._read(group, self._bytes))
                except pa.ArrowException as error:
                    raise DataError(f"images: {self._path.name} is damaged ({error})") from error
            content = self._group[1][row].as_py()
        if content is None:
            raise DataError(f"image: {name} has no bytes in {self._path.name}")
        return bytes(content)

    def _columns(self) -> tuple[str, str]:
        schema = self._file.schema_arrow
        for field in schema:
            if pa.types.is_struct(field.type):
                inside = {field.type.field(i).name for i in range(field.type.num_fields)}
                if {"bytes", "path"} <= inside:
                    return f"{field.name}.bytes", f"{field.name}.path"
        content = [
            one for one in ("bytes", "image")
            if one in schema.names and pa.types.is_binary(schema.field(one).type)
        ]  # fmt: skip
        names = [one for one in _NAME_COLUMNS if one in schema.names]
        if not (content and names):
            raise DataError(
                f"images: {self._path.name} has the columns {', '.join(schema.names)}; it needs "
                f"bytes (binary) and one of {', '.join(_NAME_COLUMNS)}"
            )
        return content[0], names[0]

    def _read(self, group: int, column: str) -> Any:
        """One column of one row group, a field of a struct taken out of it."""
        values = self._file.read_row_group(group, columns=[column]).column(0).combine_chunks()
        return values.field(0) if pa.types.is_struct(values.type) else values


def open_archive(path: Path) -> TarImages | ParquetImages:
    """Open an archive and read its names once. Raises DataError when it cannot be read."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"images: {path} cannot be read ({error})") from error
    return _open_archive(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _open_archive(path: Path, _mtime: int, _size: int) -> TarImages | ParquetImages:
    return TarImages(path) if path.suffix == ".tar" else ParquetImages(path)


def _archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into."""
    for parent in path.parents:
        if parent.suffix in (".tar", ".parquet") and parent.is_file():
            return parent
    return None


def _key(path: Path, archive: Path) -> str:
    return _clean(path.relative_to(archive).as_posix())


def _clean(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")
