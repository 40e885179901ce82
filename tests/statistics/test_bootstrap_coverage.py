"""A 95 % interval holds the truth in about 95 % of repeated samples of clustered answers."""

from functools import partial

import numpy as np

from probes.metrics import (
    aurc,
    auroc,
    brier,
    cluster_bootstrap,
    e_aurc,
    effective_reliability,
    paired_difference,
    point_biserial,
)
from probes.types import Interval

RUNS = 500
IMAGES, QUESTIONS = 120, 3
GROUPS = np.repeat(np.arange(IMAGES), QUESTIONS)


def sample(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    shared = np.repeat(rng.normal(size=images), QUESTIONS)
    logit = shared + rng.normal(size=images * QUESTIONS) - 0.5
    risk = 1 / (1 + np.exp(-logit))
    return risk, rng.random(images * QUESTIONS) < risk


def test_coverage_of_the_interval() -> None:
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
    for run in range(RUNS):
        risk, wrong = sample(rng, IMAGES)
        found = cluster_bootstrap(metrics, {"risk": risk}, wrong, GROUPS, resamples=250, seed=run)
        for name, interval in found["risk"].items():
            assert isinstance(interval, Interval)
            held[name] += interval.lower <= truth[name] <= interval.upper
    for name, count in held.items():
        assert 0.93 <= count / RUNS <= 0.97, (name, count / RUNS)


def test_coverage_of_a_paired_difference() -> None:
    """Of the same answers under a good and a worse score."""
    rng = np.random.default_rng(12)

    def pair(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        risk, wrong = sample(rng, images)
        return risk, risk + 0.3 * rng.normal(size=risk.size), wrong

    good, worse, wrong = pair(200_000)
    truth = auroc(good, wrong) - auroc(worse, wrong)
    held = 0
    for run in range(RUNS):
        good, worse, wrong = pair(IMAGES)
        found = paired_difference(auroc, good, worse, wrong, GROUPS, resamples=250, seed=run)
        assert isinstance(found, Interval)
        held += found.lower <= truth <= found.upper
    assert 0.93 <= held / RUNS <= 0.97, held / RUNS
