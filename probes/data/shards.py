"""Columns measured over many answers and kept in shards, so that a step resumes where it stopped.

A folder of ``00000.safetensors`` and a ``manifest.json`` with what is measured and every shard's
SHA-256; a shard exists once the manifest names it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from probes.atomic_write import replacing
from probes.data.store import sha256_of
from probes.errors import StoreError
from probes.types import Missing

MANIFEST = "manifest.json"
Values = NDArray[Any]
Row = Mapping[str, Values | Missing]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One measurement of n answers.

    Args:
        values: of the answers that have it, (m, ...); missing ones take no row.
        present: which do, (n,), m of them true.
        missing: how often each reason explains why a value is missing.
    """

    values: Values
    present: NDArray[np.bool_]
    missing: Mapping[str, int]


async def fill(
    folder: Path,
    setup: Mapping[str, Any],
    items: Sequence[Item],
    measure: Callable[[Sequence[Item]], Awaitable[Sequence[Row]]],
    *,
    shard_size: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Column]:
    """Measure every item, shard by shard, and load all of it.

    Args:
        setup: what is measured and of what, as plain JSON; a folder holds one setup only.
        measure: measures some items, one row each; every row has the same names.
        progress: called with the number of items done since the last call.

    Raises StoreError when the folder holds something else or a shard is damaged.
    """
    shards = await asyncio.to_thread(_open, folder, setup)
    for index, start in enumerate(range(0, len(items), shard_size)):
        part = items[start : start + shard_size]
        if index >= len(shards):
            rows = await measure(part)
            shards.append(await asyncio.to_thread(_append, folder, index, rows))
            _write(folder, setup, shards)
        if progress is not None:
            progress(len(part))
    return await asyncio.to_thread(_load, folder, shards)


def _append(folder: Path, index: int, rows: Sequence[Row]) -> dict[str, Any]:
    tensors: dict[str, Values] = {}
    missing: dict[str, dict[str, int]] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        there = [one for one in values if not isinstance(one, Missing)]
        tensors[f"{name}.present"] = np.array([not isinstance(one, Missing) for one in values])
        if there:
            tensors[name] = np.stack(there)
        missing[name] = Counter(one.reason for one in values if isinstance(one, Missing))
    file = f"{index:05d}.safetensors"
    with replacing(folder / file) as draft:
        save_file(tensors, draft)
    return {"file": file, "sha256": sha256_of(folder / file), "missing": missing}


def _load(folder: Path, shards: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    parts = []
    for shard in shards:
        path = folder / shard["file"]
        if not path.is_file() or sha256_of(path) != shard["sha256"]:
            raise StoreError(f"{path}: is missing or damaged; remove {folder} and go on")
        parts.append(load_file(path))
    columns = {}
    for name in shards[0]["missing"] if shards else ():
        found = [part[name] for part in parts if name in part]
        reasons: Counter[str] = Counter()
        for shard in shards:
            reasons.update(shard["missing"][name])
        columns[name] = Column(
            values=np.concatenate(found) if found else np.empty((0,)),
            present=np.concatenate([part[f"{name}.present"] for part in parts]),
            missing=dict(reasons),
        )
    return columns


def _open(folder: Path, setup: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the shards that the folder holds so far."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if not path.exists():
        return []
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        shards: list[dict[str, Any]] = manifest["shards"]
        found = manifest["setup"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove {folder}") from error
    if found != setup:
        raise StoreError(f"{folder}: holds other measurements; write into another folder")
    return shards


def _write(folder: Path, setup: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> None:
    content = json.dumps({"setup": setup, "shards": shards}, indent=1)
    with replacing(folder / MANIFEST) as draft:
        draft.write_text(content + "\n", encoding="utf-8")
