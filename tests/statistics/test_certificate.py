"""The certificate's promise, tried many times where the truth is known.

Answers carry a known chance to be wrong, so the true error rate of any acceptance rule is known
from a large population. Over many calibration sets the promise may be broken in at most a share
delta of the runs; a one-sided binomial test says whether what was seen is too much.
"""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import binomtest

from probes.guarantee import Certificate, certify, threshold_ladder
from probes.policy import composed_risk
from probes.types import ConsistencyMode

RUNS = 600
DELTA = 0.1
Population = tuple[np.ndarray, np.ndarray]


def plain(rng: np.random.Generator, images: int, questions: int) -> Population:
    """Risks that are not calibrated, and errors that come in clusters by image."""
    difficulty = np.repeat(rng.normal(size=images), questions)
    logit = difficulty + rng.normal(size=images * questions) - 1.5
    wrong = rng.random(images * questions) < 1 / (1 + np.exp(-2 * logit))
    score = logit + 0.7 * rng.normal(size=images * questions)
    return 1 / (1 + np.exp(-score)), wrong


def composed(
    mode: ConsistencyMode, rng: np.random.Generator, images: int, questions: int
) -> Population:
    """Two related stages, an out-of-domain share that is mostly wrong, a reject line."""
    first, wrong = plain(rng, images, questions)
    agreement = rng.binomial(10, np.where(wrong, 0.5, 0.9)) / 10
    second = np.clip(first + 0.4 * (0.8 - agreement), 0, 1)
    outside = rng.random(len(wrong)) < 0.1
    wrong = wrong | (outside & (rng.random(len(wrong)) < 0.7))
    inside = ~outside | (rng.random(len(wrong)) < 0.1)
    return composed_risk(first, second, inside, mode, 0.8), wrong


def broken_promises(kind: str, alpha: float) -> tuple[int, int]:
    """Runs whose certificate's true error rate is above alpha, and runs with a certificate."""
    rng = np.random.default_rng(20260101)

    def draw(images: int, questions: int = 3) -> Population:
        if kind == "plain":
            return plain(rng, images, questions)
        return composed(kind, rng, images, questions)

    risk, wrong = draw(200_000, questions=1)
    order = np.argsort(risk)
    truth = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    risk = risk[order]
    broken = issued = 0
    for run in range(RUNS):
        ladder = threshold_ladder(*draw(200), alpha=alpha)
        calibration, labels = draw(400)
        found = certify(
            calibration,
            labels,
            np.repeat(np.arange(400), 3),
            ladder,
            alpha=alpha,
            delta=DELTA,
            self_consistency="never",
            samples=0,
            bundle="b",
            model="m",
            data="d",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            valid_days=1,
            seed=run,
        )
        if isinstance(found, Certificate):
            issued += 1
            accepted = int(np.searchsorted(risk, found.threshold, side="right"))
            broken += bool(truth[accepted - 1] > alpha)
    return broken, issued


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize("kind", ["plain", "never", "auto", "always"])
def test_the_promise_is_broken_in_at_most_a_share_delta_of_runs(kind: str, alpha: float) -> None:
    broken, issued = broken_promises(kind, alpha)
    assert binomtest(broken, RUNS, DELTA, alternative="greater").pvalue > 0.01
    assert issued > RUNS / 2, "a certificate that is hardly ever issued proves nothing here"


def test_the_test_notices_a_broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing the threshold whose error rate looks right, without a test, breaks the promise."""

    def naive(risk: np.ndarray, wrong: np.ndarray, thresholds: np.ndarray, alpha: float, _: float):
        from probes.guarantee import TestedThreshold

        for threshold in thresholds[::-1]:
            kept = risk <= threshold
            if kept.any() and wrong[kept].mean() <= alpha:
                return TestedThreshold(float(threshold), int(kept.sum()), int(wrong[kept].sum()), 0)
        return None

    monkeypatch.setattr("probes.guarantee.fixed_sequence", naive)
    broken, _ = broken_promises("plain", 0.1)
    assert binomtest(broken, RUNS, DELTA, alternative="greater").pvalue < 1e-6
