"""A store: what a collection run writes, one row per answer, in shards that never change.

A folder of ``shard-00000.safetensors`` (arrays) and ``shard-00000.parquet`` (text and numbers), and
a ``manifest.json`` with what was collected, every file's SHA-256, and the fingerprint of it all. A
shard exists once the manifest names it, so a run that was cut off, even by ``kill -9``, resumes
after the last one. Hidden states are float16, one tensor per layer and position, and stay on disk
until one of them is asked for: a store may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from probes.atomic_write import PART, replacing
from probes.data.groups import Groups, group
from probes.data.near_duplicates import Looks
from probes.data.record import SCHEMA, Record, from_row, to_row
from probes.errors import StoreError
from probes.types import (
    FloatArray,
    GenerationSettings,
    Missing,
    ModelIdentity,
    Position,
)

FORMAT = 2
MANIFEST = "manifest.json"
NO_LOOKS = Missing("not_collected")

ShownImage = Literal["real", "blank"]

Place: TypeAlias = tuple[int, Position]
"""A layer and a token position."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """The small arrays of n answers; rows that are not present hold zeros.

    Args:
        present: which hidden states were read, (n, readouts), in the order of
            :attr:`Setup.readouts`.
        attention: (n, 2 positions, layers, metrics), see ``signals.attention.attention_table``.
        attention_present: (n,).
        image_features: (n, features).
        looks: of the real images, (n, 16, 16, 3), or ``not_collected`` in runs of before.
    """

    present: NDArray[np.bool_]
    attention: FloatArray
    attention_present: NDArray[np.bool_]
    image_features: FloatArray
    looks: Looks | Missing = NO_LOOKS


@dataclass(frozen=True, slots=True)
class Setup:
    """What a run collects, and from what.

    Args:
        model: whose answers.
        generation: how they were generated.
        readouts: (layer, position) of the hidden states.
        attention_layers: decoder layers whose attention was read.
        dataset: hash of the examples.
        shard_size: answers per shard.
        image: ``real``, or ``blank`` for a run that asks its questions about a grey image of the
            same size; the records keep the hash of the real one.
    """

    model: ModelIdentity
    generation: GenerationSettings
    readouts: tuple[Place, ...]
    attention_layers: tuple[int, ...]
    dataset: str
    shard_size: int
    image: ShownImage = "real"


@dataclass(frozen=True, eq=False)
class Store:
    """A finished run: records and small arrays in memory, hidden states on disk."""

    setup: Setup
    fingerprint: str
    records: tuple[Record, ...]
    arrays: Arrays
    skipped: Mapping[str, str]
    shards: tuple[Path, ...]

    def hidden(self, place: Place) -> NDArray[np.float16]:
        """Hidden states of one layer and position, read from disk, (n, hidden) float16.

        Raises StoreError when the place was not collected or a file is gone.
        """
        if place not in self.setup.readouts:
            raise StoreError(f"layer {place[0]} at {place[1]} was not collected (--layers)")
        states = np.empty((len(self.records), self.setup.model.hidden_size), dtype=np.float16)
        start = 0
        for path in self.shards:
            try:
                with safe_open(path, "numpy") as tensors:
                    part = tensors.get_tensor(_tensor_name(place))
            except (OSError, SafetensorError) as error:
                raise StoreError(f"{path}: cannot be read ({error})") from error
            states[start : start + len(part)] = part
            start += len(part)
        return states

    def present(self, place: Place) -> NDArray[np.bool_]:
        """Whether the hidden state of this layer and position was read, (n,)."""
        return self.arrays.present[:, self.setup.readouts.index(place)]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Labels, (n,)."""
        return np.array([record.wrong for record in self.records], dtype=bool)

    @property
    def groups(self) -> NDArray[np.str_]:
        """The label of each answer's group, (n,): its image's hash where the image is alone."""
        return self.grouping.labels

    @cached_property
    def grouping(self) -> Groups:
        """The answers' groups, and what joined them."""
        return group(self.records, self.arrays.looks)


class Writer:
    """Appends shards to a folder, and resumes where an earlier run of the same setup stopped."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        """Raises StoreError when the folder holds another run."""
        self._folder = folder
        self._plain: dict[str, Any] = {"format": FORMAT, "setup": _plain(setup)}
        self._shards: list[dict[str, Any]] = []
        self._skipped: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MANIFEST).exists():
            manifest = _read_manifest(folder)
            for name, value in self._plain["setup"].items():
                found = manifest["setup"].get(name)
                if found != value:
                    raise StoreError(
                        f"{folder / MANIFEST}: {name} is {found!r}, this run has {value!r}; "
                        "collect into a new folder"
                    )
            self._shards, self._skipped = manifest["shards"], manifest["skipped"]
        elif any(not path.name.endswith(PART) for path in folder.iterdir()):
            raise StoreError(f"{folder}: is not empty and no run; collect into a new folder")
        else:
            self._write_manifest(complete=False)

    @property
    def finished_shards(self) -> int:
        """Number of shards written so far."""
        return len(self._shards)

    @property
    def rows(self) -> int:
        """Number of answers written so far."""
        return sum(shard["rows"] for shard in self._shards)

    @property
    def skipped(self) -> Mapping[str, str]:
        """Why each skipped example was left out, by its id."""
        return self._skipped

    def append(
        self,
        records: Sequence[Record],
        hidden: Mapping[Place, NDArray[np.float16]],
        arrays: Arrays,
        skipped: Mapping[str, str],
    ) -> None:
        """Add a shard. Raises OSError when the disk is full; nothing half-written then counts.

        Args:
            hidden: per readout (n, hidden); rows that are not present hold zeros.
        """
        name = f"shard-{len(self._shards):05d}"
        names = _ARRAYS if isinstance(arrays.looks, Missing) else (*_ARRAYS, _LOOKS)
        tensors = {key: np.ascontiguousarray(getattr(arrays, key)) for key in names}
        tensors |= {_tensor_name(place): states for place, states in hidden.items()}
        table = pa.Table.from_pylist(
            [to_row(record, self._folder) for record in records], schema=SCHEMA
        )
        with replacing(self._folder / f"{name}.safetensors") as draft:
            save_file(tensors, draft)
        with replacing(self._folder / f"{name}.parquet") as draft:
            pq.write_table(table, draft, compression="zstd")
        files = [f"{name}.safetensors", f"{name}.parquet"]
        hashes = {file: sha256_of(self._folder / file) for file in files}
        self._shards.append({"rows": len(records), "sha256": hashes})
        self._skipped.update(skipped)
        self._write_manifest(complete=False)

    def finish(self) -> Store:
        """Write the fingerprint and load the whole run."""
        self._write_manifest(complete=True)
        return load(self._folder)

    def _write_manifest(self, *, complete: bool) -> None:
        content = {**self._plain, "shards": self._shards, "skipped": self._skipped}
        fingerprint = _fingerprint(content) if complete else None
        text = json.dumps({**content, "fingerprint": fingerprint}, indent=1, sort_keys=True)
        with replacing(self._folder / MANIFEST) as draft:
            draft.write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> Store:
    """Read a finished run, checking every file. Raises StoreError naming the file."""
    manifest = _read_manifest(folder)
    content = {name: value for name, value in manifest.items() if name != "fingerprint"}
    if manifest["fingerprint"] is None:
        raise StoreError(f"{folder}: the run is not finished; run collect again to go on with it")
    if manifest["fingerprint"] != _fingerprint(content):
        raise StoreError(f"{folder / MANIFEST}: was changed; its fingerprint does not fit")
    records: list[Record] = []
    parts: list[dict[str, NDArray[Any]]] = []
    shards: list[Path] = []
    for shard in manifest["shards"]:
        for name, digest in shard["sha256"].items():
            path = folder / name
            if not path.is_file() or sha256_of(path) != digest:
                raise StoreError(f"{path}: is missing or damaged; collect again")
            try:
                if path.suffix == ".safetensors":
                    shards.append(path)
                    with safe_open(path, "numpy") as tensors:
                        there = {*_ARRAYS, _LOOKS} & set(tensors.keys())
                        parts.append({name: tensors.get_tensor(name) for name in there})
                else:
                    records += [from_row(row, folder) for row in pq.read_table(path).to_pylist()]
            except (SafetensorError, pa.ArrowInvalid) as error:
                raise StoreError(f"{path}: cannot be read ({error})") from error
    if not records:
        raise StoreError(f"{folder}: holds no answers")
    names = [*_ARRAYS, *([_LOOKS] if all(_LOOKS in part for part in parts) else [])]
    arrays = Arrays(**{name: np.concatenate([part[name] for part in parts]) for name in names})
    return Store(
        setup=_setup(manifest["setup"]),
        fingerprint=manifest["fingerprint"],
        records=tuple(records),
        arrays=arrays,
        skipped=manifest["skipped"],
        shards=tuple(shards),
    )


_ARRAYS = ("present", "attention", "attention_present", "image_features")
_LOOKS = "looks"


def _tensor_name(place: Place) -> str:
    return f"hidden.{place[0]}.{place[1]}"


def _plain(setup: Setup) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(setup)))
    return plain


def _setup(plain: dict[str, Any]) -> Setup:
    return Setup(
        model=ModelIdentity(**plain["model"]),
        generation=GenerationSettings(**plain["generation"]),
        readouts=tuple((layer, position) for layer, position in plain["readouts"]),
        attention_layers=tuple(plain["attention_layers"]),
        dataset=plain["dataset"],
        shard_size=plain["shard_size"],
        image=plain["image"],
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); is this a collected run?") from error
    expected = {"format", "setup", "shards", "skipped", "fingerprint"}
    if not isinstance(manifest, dict) or set(manifest) != expected:
        raise StoreError(f"{path}: is not the manifest of a collected run")
    if manifest["format"] != FORMAT:
        raise StoreError(
            f"{path}: format {manifest['format']!r}; this version reads {FORMAT}; collect again"
        )
    return manifest


def _fingerprint(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
