"""The certificate's promise, tried many times where the truth is known.

Answers carry a known chance to be wrong, so the true error rate of any acceptance rule is known
from a large population. Over many calibration sets the promise may be broken in at most a share
delta of the runs; a one-sided binomial test says whether what was seen is too much.
"""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import binomtest

from probes.guarantee.betting import GroupedAnswers, Ladder, TestedThreshold, plan_ladder
from probes.guarantee.composed import composed_risk
from probes.guarantee.learn_then_test import certify
from probes.guarantee.slices import slice_groups
from probes.model.certificate import Certificate, NoCertificate
from probes.types import ConsistencyMode

RUNS = pytest.mark.parametrize("runs", [150, pytest.param(600, marks=pytest.mark.long)])
DELTA = 0.1
Population = tuple[np.ndarray, np.ndarray]


STRENGTHS = {"weak": (2.0, 0.25), "middle": (0.7, 0.1), "strong": (0.3, 0.05)}
"""Noise of the risk, and an alpha that such a risk can keep to."""


def plain(rng: np.random.Generator, images: int, questions: int, noise: float = 0.7) -> Population:
    """Risks that are not calibrated, and errors that come in clusters by image."""
    difficulty = np.repeat(rng.normal(size=images), questions)
    logit = difficulty + rng.normal(size=images * questions) - 1.5
    wrong = rng.random(images * questions) < 1 / (1 + np.exp(-2 * logit))
    score = logit + noise * rng.normal(size=images * questions)
    return 1 / (1 + np.exp(-score)), wrong


def composed(
    mode: ConsistencyMode, rng: np.random.Generator, images: int, questions: int, noise: float
) -> Population:
    """Two related stages, an out-of-domain share that is mostly wrong, a reject line."""
    first, wrong = plain(rng, images, questions, noise)
    agreement = rng.binomial(10, np.where(wrong, 0.5, 0.9)) / 10
    second = np.clip(first + 0.4 * (0.8 - agreement), 0, 1)
    outside = rng.random(len(wrong)) < 0.1
    wrong = wrong | (outside & (rng.random(len(wrong)) < 0.7))
    inside = ~outside | (rng.random(len(wrong)) < 0.1)
    return composed_risk(first, second, inside, mode, 0.8), wrong


def attempt(
    risk: np.ndarray, wrong: np.ndarray, images: np.ndarray, ladder: Ladder,
    alpha: float, delta: float, seed: int,
) -> Certificate | NoCertificate:  # fmt: skip
    return certify(
        risk, wrong, images, ladder, alpha=alpha, delta=delta, self_consistency="never", samples=0,
        bundle="b", model="m", data="d", created=datetime(2026, 1, 1, tzinfo=UTC), valid_days=1,
        seed=seed,
    )  # fmt: skip


def broken_promises(kind: str, noise: float, alpha: float, runs: int) -> tuple[int, int]:
    """Runs whose certificate's true error rate is above alpha, and runs with a certificate."""
    rng = np.random.default_rng(20260101)

    def draw(images: int, questions: int = 3) -> Population:
        if kind == "plain":
            return plain(rng, images, questions, noise)
        return composed(kind, rng, images, questions, noise)

    risk, wrong = draw(200_000, questions=1)
    order = np.argsort(risk)
    truth = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    risk = risk[order]
    broken = issued = 0
    for run in range(runs):
        ladder = plan_ladder(
            *draw(200), np.repeat(np.arange(200), 3), alpha=alpha, level=DELTA, count=400
        )
        calibration, labels = draw(400)
        found = attempt(
            calibration, labels, np.repeat(np.arange(400), 3), ladder, alpha, DELTA, run
        )
        if isinstance(found, Certificate):
            issued += 1
            accepted = int(np.searchsorted(risk, found.threshold, side="right"))
            broken += bool(truth[accepted - 1] > alpha)
    return broken, issued


@RUNS
@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", ["plain", "never", "auto", "always"])
def test_the_promise_is_broken_in_at_most_a_share_delta_of_runs(
    kind: str, strength: str, runs: int
) -> None:
    broken, issued = broken_promises(kind, *STRENGTHS[strength], runs)
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue > 0.01
    assert issued > runs / 2, "a certificate that is hardly ever issued proves nothing here"


def test_the_test_notices_a_broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing the threshold whose error rate looks right, without a test, breaks the promise."""

    def naive(answers: GroupedAnswers, ladder: Ladder, alpha: float, _: float):
        for threshold in ladder.thresholds[::-1]:
            kept = answers.risk <= threshold
            if kept.any() and answers.wrong[kept].mean() <= alpha:
                wrong = int(answers.wrong[kept].sum())
                return TestedThreshold(float(threshold), int(kept.sum()), wrong, 0)
        return None

    monkeypatch.setattr("probes.guarantee.learn_then_test.fixed_sequence", naive)
    broken, _ = broken_promises("plain", 0.7, 0.1, 150)
    assert binomtest(broken, 150, DELTA, alternative="greater").pvalue < 1e-6


SLICES = np.array(["a", "b", "c", "d", "e"])
SHARES = np.array([0.4, 0.35, 0.15, 0.05, 0.05])
HARDER = np.array([-0.8, 0.3, 0.0, 0.5, 1.5])


def sliced(rng: np.random.Generator, images: int) -> tuple[np.ndarray, ...]:
    """Three questions on each image of one slice; the slices differ in how hard they are, not in
    their risks. Returns risk, wrong, slice and image."""
    slices = np.repeat(rng.choice(5, size=images, p=SHARES), 3)
    difficulty = np.repeat(rng.normal(size=images), 3)
    logit = difficulty + rng.normal(size=3 * images) - 1.5
    wrong = rng.random(3 * images) < 1 / (1 + np.exp(-2 * (logit + HARDER[slices])))
    risk = 1 / (1 + np.exp(-(logit + 0.4 * rng.normal(size=3 * images))))
    return risk, wrong, SLICES[slices], np.repeat(np.arange(images), 3)


@RUNS
def test_all_promises_of_all_slices_are_broken_in_at_most_a_share_delta_of_runs(
    runs: int,
) -> None:
    """Pooled, alone and grouped: a run counts as broken when any one of its certificates is."""
    rng = np.random.default_rng(7)
    alpha = 0.1
    population, truth, of, _ = sliced(rng, 300_000)
    tables = {}
    for name in (*SLICES, "all"):
        rows = np.ones(len(of), dtype=bool) if name == "all" else of == name
        order = np.argsort(population[rows])
        tables[name] = population[rows][order], np.cumsum(truth[rows][order])

    def error_rate(group: tuple[str, ...] | None, threshold: float) -> float:
        accepted = errors = 0
        for name in ("all",) if group is None else group:
            risk, wrong = tables[name]
            count = int(np.searchsorted(risk, threshold, side="right"))
            accepted, errors = accepted + count, errors + (wrong[count - 1] if count else 0)
        return errors / accepted

    broken, issued, tested = 0, dict.fromkeys((1, 2, 3, 4, None), 0), 0
    for run in range(runs):
        risk, wrong, names, images = sliced(rng, 300)
        chosen = slice_groups(names, images.astype(str), 2.0, alpha, DELTA)
        groups: list[tuple[str, ...] | None] = [None, *chosen]
        calibration, labels, where, pictures = sliced(rng, 600)
        any_broken = False
        for group in groups:
            rows, told = (
                (np.ones(len(x), dtype=bool) if group is None else np.isin(x, group))
                for x in (names, where)
            )
            level = DELTA / len(groups)
            ladder = plan_ladder(
                risk[rows], wrong[rows], images[rows],
                alpha=alpha, level=level, count=np.unique(pictures[told]).size,
            )  # fmt: skip
            tested += 1
            found = attempt(
                calibration[told], labels[told], pictures[told], ladder,
                alpha, level, run,
            )  # fmt: skip
            if isinstance(found, Certificate):
                issued[None if group is None else len(group)] += 1
                any_broken |= error_rate(group, found.threshold) > alpha
        broken += any_broken
    assert binomtest(broken, runs, DELTA, alternative="greater").pvalue > 0.01
    assert issued[None] > runs / 2
    assert issued[1] > runs  # more than one slice of a run
    assert issued[2] + issued[3] > 0  # the small ones together


def test_a_pooled_threshold_breaks_the_promise_on_a_hard_slice() -> None:
    """Why slices are tested: the same threshold for all is wrong too often on one of them."""
    rng = np.random.default_rng(8)
    risk, wrong, names, _ = sliced(rng, 100_000)
    order = np.argsort(risk)
    rate = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    threshold = risk[order][int(np.flatnonzero(rate <= 0.1)[-1])]
    kept = risk <= threshold
    assert wrong[kept].mean() <= 0.1
    assert wrong[kept & (names == "e")].mean() > 0.2
