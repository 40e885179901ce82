"""The data behind the plots, small enough for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.types import FloatArray

POINTS = 60
BINS = 10


def risk_coverage(score: FloatArray, wrong: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Compute the error rate among the accepted, least risky first, at up to 60 coverages.

    Args:
        score: higher is riskier, (n,). wrong: (n,).
    """
    order = np.argsort(score, kind="stable")
    count = np.arange(1, wrong.size + 1)
    error = np.cumsum(wrong[order]) / count
    at = np.unique(np.linspace(0, wrong.size - 1, min(POINTS, wrong.size)).astype(int))
    return {
        "coverage": [round(float(value), 5) for value in count[at] / wrong.size],
        "error_rate": [round(float(value), 5) for value in error[at]],
    }


def reliability(risk: FloatArray, wrong: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Mean risk and share of wrong answers in ten bins of equal mass."""
    parts = np.array_split(np.argsort(risk, kind="stable"), min(BINS, risk.size))
    return [
        {
            "risk": round(float(risk[part].mean()), 5),
            "wrong": round(float(wrong[part].mean()), 5),
            "answers": int(part.size),
        }
        for part in parts
    ]


def histogram(risk: FloatArray) -> list[int]:
    """Counts of risks in twenty equal bins of [0, 1]."""
    return [int(count) for count in np.histogram(risk, bins=20, range=(0.0, 1.0))[0]]


def right_and_wrong(score: FloatArray, wrong: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Shares of the right and of the wrong answers in twenty equal bins of a signal's range.

    Args:
        score: (n,). wrong: (n,).

    Returns ``edges`` (21,), and ``right`` and ``wrong`` (20,), each of which adds up to 1 unless
    there is no such answer.
    """
    edges = np.histogram_bin_edges(score, bins=20)
    shares = {}
    for name, part in (("right", ~wrong), ("wrong", wrong)):
        counts = np.histogram(score[part], bins=edges)[0]
        shares[name] = [round(float(count), 5) for count in counts / max(1, int(part.sum()))]
    return {"edges": [round(float(edge), 5) for edge in edges], **shares}
