"""Splits a dataset among workers, and merges the stores that they collect.

One worker gets all questions about an image, so the parts share no image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from probes.data.datasets.example import Example
from probes.data.store import Arrays, Setup, Store, Writer, load
from probes.errors import DataError, StoreError
from probes.types import Missing


def take_shard(examples: Sequence[Example], shard: str) -> tuple[Example, ...]:
    """Return the examples of every n-th image.

    Args:
        shard: ``i/n`` with i from 0 to n - 1, as an Indexed Job counts its pods.

    Raises DataError when it is written otherwise, or when this worker gets no example.
    """
    found = re.fullmatch(r"(\d+)/([1-9]\d*)", shard)
    if found is None or int(found.group(1)) >= int(found.group(2)):
        raise DataError(f"shard: {shard!r}; write i/n with i from 0 to n - 1, such as 0/8")
    index, count = int(found.group(1)), int(found.group(2))
    images = list(dict.fromkeys(one.image_path for one in examples))
    mine = set(images[index::count])
    taken = tuple(one for one in examples if one.image_path in mine)
    if not taken:
        raise DataError(f"shard: {shard} is empty, for there are {len(images)} images; lower n")
    return taken


def merge(folders: Sequence[Path], out: Path) -> Store:
    """Merge the parts into one run, in the order given; they may be collected anywhere.

    The run's dataset hash comes from the parts', so equal parts in equal order give equal stores.

    Args:
        folders: of finished runs of one model, alike but for their dataset. out: a new folder.

    Raises StoreError naming the part that does not fit.
    """
    parts = [load(folder) for folder in folders]
    if not parts:
        raise StoreError("no parts to merge; name their folders")
    for part, folder in zip(parts, folders, strict=True):
        _check_fits(part, parts[0], folder)
    _check_apart(parts, folders)
    writer = Writer(out, replace(parts[0].setup, dataset=_dataset(parts)))
    if writer.finished_shards:
        raise StoreError(f"{out}: holds a run already; merge into a new folder")
    for part in parts:
        skipped, start = part.skipped, 0
        for path in part.shards:
            with safe_open(path, "numpy") as tensors:
                rows = slice(start, start + tensors.get_slice("present").get_shape()[0])
            start = rows.stop
            one = replace(part, records=part.records[rows], shards=(path,))
            arrays = part.arrays
            writer.append(
                one.records,
                {place: one.hidden(place) for place in part.setup.readouts},
                Arrays(
                    present=arrays.present[rows],
                    attention=arrays.attention[rows],
                    attention_present=arrays.attention_present[rows],
                    image_features=arrays.image_features[rows],
                    looks=arrays.looks if isinstance(arrays.looks, Missing) else arrays.looks[rows],
                ),
                skipped,
            )
            skipped = {}
    return writer.finish()


def _check_fits(part: Store, first: Store, folder: Path) -> None:
    for name in Setup.__dataclass_fields__:
        found, expected = getattr(part.setup, name), getattr(first.setup, name)
        if name != "dataset" and found != expected:
            raise StoreError(f"{folder}: {name} is {found!r}, the first part has {expected!r}")


def _check_apart(parts: Sequence[Store], folders: Sequence[Path]) -> None:
    owners: dict[str, Path] = {}
    for part, folder in zip(parts, folders, strict=True):
        for image in {record.image_hash for record in part.records}:
            if image in owners:
                raise StoreError(
                    f"{folder}: shares an image with {owners[image]}; an image's questions belong "
                    "into one part, and each part is named once"
                )
            owners[image] = folder


def _dataset(parts: Sequence[Store]) -> str:
    joined = "\n".join(part.setup.dataset for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()
