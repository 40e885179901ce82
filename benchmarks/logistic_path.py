"""A path of L2 logistic regressions: ours beside scikit-learn's, in processor time.

    OMP_NUM_THREADS=1 python -m benchmarks.logistic_path

Both fit the same made tables under the four weightings of a cross-validation at every C. Columns
are ``correlated`` (the k-th direction has a share 1 / k of the spread, more or less as hidden
states have it) or ``independent``. ``gradient`` is the longest one left, as a share of its length
at zero weights. Prints JSON.
"""

from __future__ import annotations

import json
import os
import platform
import time

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

from probes.fit.linear import FOLDS, REGULARISATION
from probes.fit.logistic import fit_path
from probes.types import FloatArray

ROWS = 4410
WIDTHS = (192, 1024, 4096)
Solutions = list[tuple[float, int, FloatArray, float]]
"""C, fold, weights, intercept."""


def made(width: int, correlated: bool) -> tuple[FloatArray, FloatArray]:
    """A standardised table (rows, width) float32, and a target (rows,) bool."""
    rng = np.random.default_rng(0)
    rank = min(ROWS, width)
    hidden = rng.normal(size=(ROWS, rank)).astype(np.float32)
    if correlated:
        mixed = (hidden / np.arange(1, rank + 1)) @ rng.normal(size=(rank, width))
    else:
        mixed = rng.normal(size=(ROWS, width)) + hidden[:, :64] @ rng.normal(size=(64, width)) / 8
    table = (mixed - mixed.mean(axis=0)) / mixed.std(axis=0)
    target = hidden[:, :20].sum(axis=1) / 3 + rng.normal(size=ROWS) > 1.2
    return np.ascontiguousarray(table, dtype=np.float32), target


def ours(table: FloatArray, target: FloatArray, folds: FloatArray) -> Solutions:
    return [
        (found.strength, fold, found.weights[:, fold], found.intercepts[fold])
        for found in fit_path(table, target, folds, REGULARISATION)
        for fold in range(FOLDS)
    ]


def theirs(table: FloatArray, target: FloatArray, folds: FloatArray) -> Solutions:
    solutions: Solutions = []
    for fold in range(FOLDS):
        rows = folds[:, fold] > 0
        model = LogisticRegression(max_iter=5000, warm_start=True)
        for strength in REGULARISATION:
            model.set_params(C=strength).fit(table[rows], target[rows])
            solutions.append((strength, fold, model.coef_[0].copy(), model.intercept_[0]))
    return solutions


def gradient(table: FloatArray, target: FloatArray, folds: FloatArray, found: Solutions) -> float:
    """The longest gradient left, as a share of its length at zero weights."""
    shares = []
    for strength, fold, weights, intercept in found:
        rows = folds[:, fold] > 0
        away = 1 / (1 + np.exp(-(table[rows] @ weights + intercept))) - target[rows]
        left = np.append(table[rows].T @ away + weights / strength, away.sum())
        start = table[rows].T @ (0.5 - target[rows])
        shares.append(float(np.linalg.norm(left) / np.linalg.norm(start)))
    return max(shares)


def main() -> None:
    rows = []
    for width in WIDTHS:
        for correlated in (True, False):
            table, target = made(width, correlated)
            folds = (np.arange(ROWS)[:, None] % FOLDS != np.arange(FOLDS)).astype(float)
            row = {"width": width, "columns": "correlated" if correlated else "independent"}
            for name, fit in {"ours": ours, "scikit_learn": theirs}.items():
                started = time.process_time()
                found = fit(table, target, folds)
                seconds = round(time.process_time() - started, 2)
                left = gradient(table, target, folds, found)
                row[name] = {"cpu_seconds": seconds, "gradient": float(f"{left:.1e}")}
            rows.append(row)
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor()}
    told = {"rows": ROWS, "strengths": REGULARISATION, "scikit_learn": sklearn.__version__}
    print(json.dumps({**told, **machine, "tables": rows}, indent=1))


if __name__ == "__main__":
    main()
