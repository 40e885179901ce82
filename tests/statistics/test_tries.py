"""The best of many training seeds on the same images: all of them spend from one delta.

Each seed splits the same images anew and gives a risk of its own; who looks at all of them serves
the certificate that accepts most. A run is broken when that one's error rate is above alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.certificate_power import Answers, Rule, new_rule, old_rule
from probes.data.splits import split_by_image
from probes.fit.train import SHARES
from probes.guarantee.ledger import Ledger, anchors

ALPHA, DELTA = 0.10, 0.05
IMAGES = 1200
NAMES = [f"image-{number}" for number in range(IMAGES)]
SPLITS = [split_by_image(NAMES, SHARES, seed) for seed in range(20)]
LONG = pytest.mark.long


def draw(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """How hard each image's question is, in log-odds, and whether its answer is wrong."""
    logit = 1.5 * rng.normal(size=images) - 2
    return logit, rng.random(images) < 1 / (1 + np.exp(-1.3 * logit))


def risk_of(logit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a seed's probe makes of it: as good as any other seed's, wrong about other images."""
    return np.asarray(1 / (1 + np.exp(-(logit + rng.normal(size=len(logit))))))


def broken_runs(
    seeds: int, runs: int, level: Callable[[int, int], float], rule: Callable[[float], Rule]
) -> int:
    """Runs whose best certificate errs more than alpha. ``level``: of a run's seed."""
    rng = np.random.default_rng(19)
    logit, wrong = draw(rng, 300_000)
    risk = risk_of(logit, rng)
    order = np.argsort(risk)
    rate = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    broken = 0
    for run in range(runs):
        logit, wrong = draw(rng, IMAGES)
        found = []
        for seed in range(seeds):
            own = risk_of(logit, rng)
            select, calibrate = (
                Answers(own[rows], wrong[rows], np.flatnonzero(rows))
                for rows in (SPLITS[seed] == "select", SPLITS[seed] == "calibrate")
            )
            threshold = rule(level(run, seed))(select, calibrate, ALPHA, run)
            found += [] if threshold is None else [threshold]
        accepted = int(np.searchsorted(risk[order], max(found, default=-1.0), side="right"))
        broken += bool(accepted and rate[accepted - 1] > ALPHA)
    return broken


SIZES = [
    (5, 12),
    pytest.param(5, 2000, marks=LONG),
    pytest.param(20, 500, marks=LONG),
]


@pytest.mark.parametrize(("seeds", "runs"), SIZES)
def test_the_best_of_many_seeds_keeps_the_promise(seeds: int, runs: int, tmp_path: Path) -> None:
    """Levels are those of the ledger, asked as certify asks it; each run is data of its own."""

    def level(run: int, seed: int) -> float:
        ledger = Ledger(anchors(NAMES, f"run {run}"), [tmp_path / str(run)])
        return DELTA * ledger.share({"bundle": f"b-{seed}", "alpha": ALPHA})

    broken = broken_runs(seeds, runs, level, new_rule)
    print(f"best of {seeds} seeds: {broken} of {runs} broken")
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize(("seeds", "runs"), [(20, 25), *SIZES[1:]])
def test_the_best_of_many_seeds_each_at_delta_broke_it(seeds: int, runs: int) -> None:
    broken = broken_runs(seeds, runs, lambda run, seed: DELTA, old_rule)
    print(f"best of {seeds} seeds, before: {broken} of {runs} broken")
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue < 0.01
