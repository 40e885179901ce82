"""Labelled questions about images, in the formats they are published in.

``pope`` and ``vqa`` are the published files; ``jsonl`` and ``csv`` are a site's own plain tables.
Images are looked for in a folder, a tar or a parquet file (:mod:`probes.data.images`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal, get_args

from probes.data.datasets.example import Loaded, gather
from probes.data.datasets.lines import read_bytes
from probes.data.datasets.plain import read_csv, read_jsonl
from probes.data.datasets.pope import read_pope
from probes.data.datasets.vqa import annotations_beside, read_vqa
from probes.data.images import check_source
from probes.errors import DataError

Format = Literal["jsonl", "csv", "pope", "vqa"]
FORMATS: tuple[Format, ...] = get_args(Format)

_HEAD_BYTES = 1 << 16


def load_dataset(
    path: Path,
    *,
    format: Format | None = None,
    images: Path | None = None,
    annotations: Path | None = None,
) -> Loaded:
    """Read a dataset: the usable records, and one problem for each that is not.

    Args:
        path: the file of questions.
        format: as the file is written; :func:`detect_format` if None.
        images: folder, .tar or .parquet file of the images; the file's folder if None.
        annotations: of VQA v2; beside the questions under their published name if None.

    Raises DataError when a file cannot be read at all or holds no record.
    """
    found = detect_format(path) if format is None else format
    if annotations is not None and found != "vqa":
        raise DataError(f"annotations: format {found} has none; leave them out")
    source = path.parent if images is None else images
    check_source(source)
    if found == "vqa":
        return gather(read_vqa(path, source, annotations or annotations_beside(path)))
    readers = {"jsonl": read_jsonl, "csv": read_csv, "pope": read_pope}
    return gather(readers[found](path, source))


def detect_format(path: Path) -> Format:
    """Detect the format from the file's suffix and first records, or raise DataError."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    head = read_bytes(path)[:_HEAD_BYTES]
    if re.search(rb'"questions"\s*:\s*\[', head):
        return "vqa"
    for line in head.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and "image" in record:
            return "pope" if {"text", "label"} & set(record) else "jsonl"
    raise DataError(f"{path.name}: cannot tell its format; give --format {'|'.join(FORMATS)}")
