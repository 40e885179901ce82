from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from probes.data.images import check_source, has_image, load_image, read_image
from probes.errors import DataError

NAMES = tuple(f"val2014/{index}.png" for index in range(9))


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (level, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path) -> Path:
    (root / "images" / "val2014").mkdir(parents=True)
    for level, name in enumerate(NAMES):
        (root / "images" / name).write_bytes(png(level))
    return root / "images"


def write_tar(root: Path) -> Path:
    with tarfile.open(root / "images.tar", "w") as tar:
        for level, name in enumerate(NAMES):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(png(level))
            tar.addfile(member, io.BytesIO(png(level)))
    return root / "images.tar"


def write_parquet(root: Path, *, struct: bool = True) -> Path:
    images = [png(level) for level in range(len(NAMES))]
    columns: dict[str, Any] = {"label": pa.array(["x"] * len(NAMES))}
    if struct:
        rows = [{"bytes": one, "path": name} for one, name in zip(images, NAMES, strict=True)]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns["image"] = pa.array(rows, type=kind)
    else:
        columns |= {"image": pa.array(images), "file_name": pa.array(NAMES)}
    pq.write_table(pa.table(columns), root / "images.parquet", row_group_size=2)
    return root / "images.parquet"


SOURCES = {
    "folder": write_folder,
    "tar": write_tar,
    "parquet": write_parquet,
    "flat parquet": lambda root: write_parquet(root, struct=False),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_path_leads_into_every_kind_of_source(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path)
    check_source(source)
    for level, name in enumerate(NAMES):
        assert has_image(source / name)
        assert load_image(source / name)[0, 0].tolist() == [level, 0, 0]
        assert read_image(source / name) == png(level)
    # The path that a run writes down is cleaned by its text alone.
    again = Path(os.path.normpath(tmp_path / "run" / ".." / source.name / "." / NAMES[3]))
    assert read_image(again) == png(3)
    assert not has_image(source / "val2014" / "none.png")
    with pytest.raises(DataError, match=r"none\.png"):
        load_image(source / "val2014" / "none.png")
    check_source(source / "val2014")


@pytest.mark.parametrize("kind", SOURCES)
def test_many_threads_read_at_once(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path)
    order = np.random.default_rng(0).integers(len(NAMES), size=200)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda level: read_image(source / NAMES[level]), order))
    assert found == [png(level) for level in order]


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    source = write_tar(tmp_path)
    assert has_image(source / NAMES[0])
    with tarfile.open(source, "w") as tar:
        tar.addfile(tarfile.TarInfo("b.png"))
    assert not has_image(source / NAMES[0])
    assert has_image(source / "b.png")


def test_archives_that_cannot_be_used(tmp_path: Path) -> None:
    whole = write_tar(tmp_path).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "images.zip").write_bytes(b"PK")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"image": [b"x"], "width": [3]}), tmp_path / "nameless.parquet")
    for name, message in (
        ("cut.tar", "no whole, plain tar"),
        ("packed.tar", "no whole, plain tar"),
        ("images.zip", "is no folder"),
        ("broken.parquet", "no whole parquet"),
        ("nameless.parquet", "has the columns image, width; it needs"),
        ("gone.tar", "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            check_source(tmp_path / name)


def test_a_row_without_bytes(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": None}, None]
    pq.write_table(pa.table({"image": pa.array(rows, type=kind)}), tmp_path / "i.parquet")
    with pytest.raises(DataError, match=r"a\.png has no bytes"):
        read_image(tmp_path / "i.parquet" / "a.png")


def test_what_is_no_image_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.png").write_text("no image")
    with pytest.raises(DataError, match=r"t\.png cannot be decoded \(these bytes are no image"):
        load_image(tmp_path / "t.png")
