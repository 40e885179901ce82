"""A 95 % interval holds the truth in about 95 % of repeated samples of clustered answers."""

from functools import partial

import numpy as np
import pytest

from probes.stats.bootstrap import cluster_bootstrap, paired_difference
from probes.stats.metrics import aurc, auroc, brier, e_aurc, effective_reliability, point_biserial
from probes.types import Interval

RUNS = pytest.mark.parametrize(
    ("runs", "least", "most"),
    [(120, 0.90, 0.99), pytest.param(500, 0.93, 0.97, marks=pytest.mark.long)],
)
IMAGES, QUESTIONS = 120, 3
GROUPS = np.repeat(np.arange(IMAGES), QUESTIONS)


def sample(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    shared = np.repeat(rng.normal(size=images), QUESTIONS)
    logit = shared + rng.normal(size=images * QUESTIONS) - 0.5
    risk = 1 / (1 + np.exp(-logit))
    return risk, rng.random(images * QUESTIONS) < risk


@RUNS
def test_coverage_of_the_interval(runs: int, least: float, most: float) -> None:
    rng = np.random.default_rng(11)
    metrics = {
        "auroc": auroc,
        "brier": brier,
        "aurc": aurc,
        "e_aurc": e_aurc,
        "point_biserial": point_biserial,
        "phi": partial(effective_reliability, cost=1, threshold=0.4),
    }
    risk, wrong = sample(rng, 200_000)
    truth = {name: metric(risk, wrong) for name, metric in metrics.items()}
    held = dict.fromkeys(metrics, 0)
    for run in range(runs):
        risk, wrong = sample(rng, IMAGES)
        found = cluster_bootstrap(metrics, {"risk": risk}, wrong, GROUPS, resamples=250, seed=run)
        for name, interval in found["risk"].items():
            assert isinstance(interval, Interval)
            held[name] += interval.lower <= truth[name] <= interval.upper
    for name, count in held.items():
        assert least <= count / runs <= most, (name, count / runs)


@RUNS
def test_coverage_of_a_paired_difference(runs: int, least: float, most: float) -> None:
    """Of the same answers under a good and a worse score."""
    rng = np.random.default_rng(12)

    def pair(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        risk, wrong = sample(rng, images)
        return risk, risk + 0.3 * rng.normal(size=risk.size), wrong

    good, worse, wrong = pair(200_000)
    truth = auroc(good, wrong) - auroc(worse, wrong)
    held = 0
    for run in range(runs):
        good, worse, wrong = pair(IMAGES)
        found = paired_difference(auroc, good, worse, wrong, GROUPS, resamples=250, seed=run)
        assert isinstance(found, Interval)
        held += found.lower <= truth <= found.upper
    assert least <= held / runs <= most, held / runs
