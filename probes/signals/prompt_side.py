"""Prompt-side attention: how the question's content words attend to the image. Compared only.

Our stand-in for PV-TAM (arXiv 2606.23763), whose formulae are not public: the mean attention map of
the question's content words minus that of the template's tokens around the question (they attend
wherever every token does), negative parts cut off. Content words are all words but the stop words
listed here.
"""

from __future__ import annotations

import re

import numpy as np

from probes.types import FloatArray, Missing, PromptSideAttention

_STOP = """
a an the this that these those is are was were be been do does did has have had can could will would
should there here it its he she they them their you your i we of in on at to from with by for as and
or not no yes what which who whose where when how why many much any some if than then please answer
"""
STOP_WORDS = frozenset(_STOP.split())
PROMPT_SIDE_METRICS: tuple[str, ...] = ("peak", "peak_mass")
_WORD = re.compile(r"\w+")


def content_spans(question: str) -> tuple[tuple[int, int], ...]:
    """Return the first and past-the-last character of every content word.

    >>> content_spans("Is there a red gear?")
    ((11, 14), (15, 19))
    """
    return tuple(
        match.span()
        for match in _WORD.finditer(question)
        if match.group().lower() not in STOP_WORDS
    )


def prompt_side(
    content: FloatArray, boundary: FloatArray, grid: tuple[int, int]
) -> PromptSideAttention | Missing:
    """Measure the peak and the peak mass of one layer's map.

    Args:
        content: mean attention of the content words to each image token, (image_tokens,).
        boundary: that of the template's tokens, same shape.
        grid: rows and columns of the image tokens, in raster order.

    Returns ``Missing`` with ``grid_mismatch``, ``not_finite`` or ``no_positive_map``.
    """
    if content.shape != (grid[0] * grid[1],) or boundary.shape != content.shape:
        return Missing("grid_mismatch")
    difference = content.astype(np.float64) - boundary
    if not np.isfinite(difference).all():
        return Missing("not_finite")
    positive = np.maximum(difference, 0.0).reshape(grid)
    mass = float(positive.sum())
    if mass <= 0:
        return Missing("no_positive_map")
    row, column = np.unravel_index(int(positive.argmax()), grid)
    around = positive[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    return PromptSideAttention(
        peak=float(positive[row, column]), peak_mass=min(1.0, float(around.sum()) / mass)
    )
