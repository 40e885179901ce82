"""Drawing the sampled answers of self-consistency: the same ones for the same request, always.

Collection and service draw through here, in the same chunks and with the same seeds, so what was
certified offline is what is served.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from probes.types import GenerationSettings, ImageArray, Query

CHUNK = 5
"""Answers drawn at a time; between chunks sampling may stop early."""


class Sampler(Protocol):
    """The part of an engine that samples."""

    async def sample(
        self, query: Query, count: int, *, temperature: float, top_p: float, seed: int
    ) -> tuple[str, ...]:
        """Draw ``count`` answers; the same seed gives the same answers."""
        ...


def image_hash(image: ImageArray) -> str:
    """Return the SHA-256 of an image's size and pixels in hexadecimal, however it was encoded."""
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}:".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def sample_seed(query: Query) -> int:
    """Derive a seed from the image and the question, 0 to 2**32 - 1."""
    text = f"{image_hash(query.image)}:{query.question}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


async def draw_chunk(
    engine: Sampler, query: Query, settings: GenerationSettings, drawn: int, planned: int
) -> tuple[str, ...]:
    """Draw the next answers after the first ``drawn`` of ``planned``: a chunk, or what is left."""
    count = min(CHUNK, planned - drawn)
    seed = (sample_seed(query) + drawn) % 2**32
    return await engine.sample(
        query, count, temperature=settings.temperature, top_p=settings.top_p, seed=seed
    )
