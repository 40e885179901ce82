"""Example answers as pictures: the image, and the map of attention beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from probes.types import AttentionMaps, FloatArray, ImageArray, Missing

WIDTH = 220
"""Pixels of a picture's longer side on the page."""
GROUPS: Mapping[str, str] = {
    "confident_error": "Confident errors: wrong, and of the lowest risk",
    "rescued": "Rescued: wrong, trusted by token confidence, not accepted by the gate",
}


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One example of an evaluation with its image.

    Args:
        example: a row of the evaluation's ``examples``.
        image: RGB, uint8, (height, width, 3).
        attention: read while the model answered it again, or why there is none.
    """

    example: Mapping[str, Any]
    image: ImageArray
    attention: AttentionMaps | Missing


@dataclass(frozen=True, slots=True)
class Card:
    """An example as the page shows it; pictures are data URIs, a missing map says why."""

    group: str
    question: str
    answer: str
    reference: str
    facts: str
    image: str
    attention: str
    no_attention: str


def to_card(shown: Shown) -> Card:
    """Scale and encode the pictures, and put the facts into words."""
    one = shown.example
    row = _mean_map(shown.attention)
    decided = "accepted" if one["accepted"] else "not accepted"
    return Card(
        group=GROUPS[one["group"]],
        question=one["question"],
        answer=one["answer"],
        reference=" or ".join(one["references"]),
        facts=f"risk {one['risk']:.3f}, mean log-probability {one['mean_logprob']:.3f}, {decided}",
        image=_data_uri(_scaled(Image.fromarray(shown.image), Image.Resampling.BICUBIC), "JPEG"),
        attention=""
        if isinstance(row, Missing)
        else _data_uri(_scaled(_coloured(row), Image.Resampling.NEAREST), "PNG"),
        no_attention=row.reason if isinstance(row, Missing) else "",
    )


def _mean_map(attention: AttentionMaps | Missing) -> FloatArray | Missing:
    """Mean over the layers, of the answer's tokens where it has any: (rows, columns)."""
    if isinstance(attention, Missing):
        return attention
    rows = attention.answer_mean
    if isinstance(rows, Missing):
        rows = attention.prompt_last
    return np.asarray(rows.mean(axis=0).reshape(attention.grid))


def _coloured(row: FloatArray) -> Image.Image:
    low, high = float(row.min()), float(row.max())
    level = np.zeros_like(row) if high <= low else (row - low) / (high - low)
    return Image.fromarray((mpl.colormaps["viridis"](level)[..., :3] * 255).astype(np.uint8))


def _scaled(image: Image.Image, how: Image.Resampling) -> Image.Image:
    factor = WIDTH / max(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)), how)


def _data_uri(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
