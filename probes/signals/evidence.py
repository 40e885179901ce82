"""Visual evidence: what the answer owes to the image, measured by masking parts of the image.

The answer is scored again with the image blanked, with its 30 % most attended patches masked,
and with as many drawn at random; its log-probability then is what is left without them (VAUQ,
arXiv 2602.21054, masks the attended region). Masked patches get the image's mean colour, a blank
image is mid grey. Attention is that of the answer tokens, averaged over the layers read. The random
patches are drawn by the image's hash, so that an image always loses the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from probes.signals.attention import TOP_SHARE, top_mask
from probes.signals.sampling import image_hash
from probes.types import (
    AnswerScore,
    Evidence,
    FloatArray,
    Generation,
    ImageArray,
    Missing,
    Trace,
)

Masking = Literal["blank", "top30", "random30", "bottom30"]
MASKINGS: tuple[Masking, ...] = get_args(Masking)
ONLINE: tuple[Masking, ...] = ("blank", "top30", "random30")
"""What an :class:`Evidence` is made of."""


def answer_row(trace: Trace) -> FloatArray | Missing:
    """Return the answer tokens' attention to each image token, averaged over layers."""
    maps = trace.attention
    if isinstance(maps, Missing):
        return maps
    if isinstance(maps.answer_mean, Missing):
        return maps.answer_mean
    row: FloatArray = maps.answer_mean.mean(axis=0)
    return row if np.isfinite(row).all() else Missing("not_finite")


def patches(masking: Masking, row: FloatArray, image: ImageArray) -> NDArray[np.bool_]:
    """Return which image tokens a masking takes away, (image_tokens,).

    Args:
        row: attention to each image token; ties go to the first in raster order.
    """
    if masking == "blank":
        return np.ones(row.size, dtype=bool)
    if masking == "top30":
        return top_mask(row)
    if masking == "bottom30":
        return top_mask(-row)
    seed = int(image_hash(image)[:8], 16)
    mask = np.zeros(row.size, dtype=bool)
    mask[np.random.default_rng(seed).permutation(row.size)[: math.ceil(TOP_SHARE * row.size)]] = 1
    return mask


def without(image: ImageArray, boxes: FloatArray) -> ImageArray:
    """Copy the image and fill the boxes with its mean colour.

    Args:
        boxes: left, top, right, bottom in pixels, (boxes, 4); edges are rounded, so that patches
            side by side neither overlap nor leave a line.
    """
    masked = image.copy()
    colour = mean_colour(image)
    for left, top, right, bottom in np.rint(np.maximum(boxes, 0)).astype(int):
        masked[top:bottom, left:right] = colour
    return masked


def mean_colour(image: ImageArray) -> ImageArray:
    """Return the mean colour of the pixels, rounded, (3,)."""
    colour: ImageArray = np.rint(image.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    return colour


def masked_images(
    image: ImageArray, row: FloatArray, boxes: FloatArray, maskings: tuple[Masking, ...] = ONLINE
) -> dict[Masking, ImageArray] | Missing:
    """Apply each masking to the image, or return ``grid_mismatch``.

    Args:
        row: attention to each image token, (image_tokens,).
        boxes: of each image token in pixels, (image_tokens, 4).
    """
    if boxes.shape != (row.size, 4):
        return Missing("grid_mismatch")
    return {
        masking: blank_image(image)
        if masking == "blank"
        else without(image, boxes[patches(masking, row, image)])
        for masking in maskings
    }


PatchBoxes: TypeAlias = Callable[[tuple[int, int], tuple[int, int]], FloatArray | Missing]
"""Height and width of an image, rows and columns of its tokens, to the pixels of each token:
left, top, right, bottom, (image_tokens, 4)."""


def mask_image(
    image: ImageArray,
    trace: Trace,
    patch_boxes: PatchBoxes,
    maskings: tuple[Masking, ...] = ONLINE,
) -> dict[Masking, ImageArray] | Missing:
    """Apply each masking to the image, by the attention in an answer's trace.

    Returns the reason of the attention or of the boxes where one is missing, or ``grid_mismatch``.
    """
    maps, row = trace.attention, answer_row(trace)
    if isinstance(maps, Missing):
        return maps
    if isinstance(row, Missing):
        return row
    height, width = image.shape[:2]
    boxes = patch_boxes((height, width), maps.grid)
    if isinstance(boxes, Missing):
        return boxes
    return masked_images(image, row, boxes, maskings)


def measure_evidence(
    generation: Generation, scores: Mapping[Masking, AnswerScore]
) -> Evidence | Missing:
    """Measure what the answer's log-probability loses without the image, or without a part of it.

    Args:
        generation: the answer, with the whole image.
        scores: of the same answer, per masking of :data:`ONLINE`.

    Returns ``Missing`` with ``empty_answer`` or ``not_finite``.
    """
    if not generation.token_ids:
        return Missing("empty_answer")
    whole = float(generation.trace.logprobs.sum())
    drops = {masking: whole - scores[masking].logprob for masking in ONLINE}
    if not all(math.isfinite(drop) for drop in drops.values()):
        return Missing("not_finite")
    return Evidence(
        logprob_drop_blank=drops["blank"],
        flipped_blank=not scores["blank"].greedy,
        logprob_drop_top30=drops["top30"],
        flipped_top30=not scores["top30"].greedy,
        logprob_drop_random30=drops["random30"],
        flipped_random30=not scores["random30"].greedy,
    )


BLANK_GREY = 128


def blank_image(image: ImageArray) -> ImageArray:
    """Return an even mid-grey image of the same size.

    Mid grey, not the image's own mean: how dark a picture is tells how hard it is.
    """
    return np.full_like(image, BLANK_GREY)
