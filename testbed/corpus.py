"""Rendered scenes with their dense labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from testbed.drawing import render
from testbed.scenes import Domain, Scene, cell_labels, make_scene

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Corpus:
    """Scenes with their pixels (n, size, size, 3) uint8 and cell classes (n, 4, 4)."""

    scenes: tuple[Scene, ...]
    pixels: NDArray[np.uint8]
    cells: NDArray[np.int64]


def _small(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _cached(cache: Path, seeds: range, domain: Domain, size: int) -> Path:
    return cache / f"{domain}-{seeds.start}-{seeds.stop}-{size}.npy"


def _render_chunk(seeds: range, domain: Domain, files: dict[int, Path], at: int) -> None:
    """Render scenes into the open files of their sizes, from row ``at`` on."""
    rows = {size: np.load(path, mmap_mode="r+") for size, path in files.items()}
    for row, seed in enumerate(seeds, start=at):
        image = Image.fromarray(render(make_scene(seed, domain)))
        for size, pixels in rows.items():
            pixels[row] = _small(image, size)


def render_into(cache: Path, seeds: range, domain: Domain, sizes: Sequence[int]) -> None:
    """Render the scenes of ``seeds`` once, on every core, and keep their pixels at each size."""
    cache.mkdir(parents=True, exist_ok=True)
    finished = {size: _cached(cache, seeds, domain, size) for size in sizes}
    wanted = {size: path.with_suffix(".part") for size, path in finished.items()}
    wanted = {size: path for size, path in wanted.items() if not finished[size].exists()}
    for size, path in wanted.items():
        shape = (len(seeds), size, size, 3)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if wanted:
        Parallel(n_jobs=-1)(
            delayed(_render_chunk)(seeds[at : at + _CHUNK], domain, wanted, at)
            for at in range(0, len(seeds), _CHUNK)
        )
    for size, path in wanted.items():
        path.rename(finished[size])


def build_corpus(seeds: range, domain: Domain, size: int, cache: Path | None = None) -> Corpus:
    """The scenes of ``seeds`` at ``size`` pixels, rendered once where there is a ``cache``."""
    scenes = tuple(make_scene(seed, domain) for seed in seeds)
    if cache is None:
        images = (Image.fromarray(render(scene)) for scene in scenes)
        pixels = np.stack([_small(image, size) for image in images])
    else:
        render_into(cache, seeds, domain, [size])
        pixels = np.load(_cached(cache, seeds, domain, size), mmap_mode="r")
    return Corpus(scenes, pixels, np.stack([cell_labels(scene) for scene in scenes]))
