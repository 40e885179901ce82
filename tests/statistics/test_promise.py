"""The promise where it used to break: each case a simulation whose truth is known.

A run is broken when a certificate was given out at whose threshold the accepted answers of a large
population err more than alpha. That may happen in a share delta of the runs; a one-sided binomial
test says whether what was seen is too much. Beside each stands the test as it was before
(`benchmarks.certificate_power.old_rule`): the case is one that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.certificate_power import Answers, Rule, new_rule, old_rule
from probes.guarantee.certify import fresh_shares
from probes.guarantee.composed import composed_risk
from probes.guarantee.recertify import certify_judged
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate
from probes.types import CONSISTENCY_MODES

ALPHA, DELTA = 0.10, 0.05
LONG = pytest.mark.long
Draw = Callable[[np.random.Generator, int], Answers]


def holds(broken: int, runs: int) -> bool:
    return bool(binomtest(broken, runs, DELTA, alternative="greater").pvalue > 0.01)


def fails(broken: int, runs: int) -> bool:
    return bool(binomtest(broken, runs, DELTA, alternative="greater").pvalue < 0.01)


class Truth:
    """Error rate among the accepted answers of a population, at any threshold."""

    def __init__(self, risk: np.ndarray, wrong: np.ndarray) -> None:
        order = np.argsort(risk)
        self._risk = risk[order]
        self._rate = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)

    def above(self, threshold: float, alpha: float) -> bool:
        accepted = int(np.searchsorted(self._risk, threshold, side="right"))
        return accepted > 0 and bool(self._rate[accepted - 1] > alpha)


def logistic(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-value)))


def unlike_sizes(rng: np.random.Generator, images: int) -> Answers:
    """Most images have one question, some have twenty, and those err more than their risk says."""
    size = np.where(rng.random(images) < 0.3, 20, 1)
    image = np.repeat(np.arange(images), size)
    logit = np.repeat(rng.normal(size=images), size) + rng.normal(size=len(image)) - 2.2
    wrong = rng.random(len(image)) < logistic(1.5 * logit + 1.1 * (size[image] > 1))
    return Answers(logistic(logit + 0.5 * rng.normal(size=len(image))), wrong, image)


def scenes(frames: int) -> Draw:
    """Scenes of so many frames that look and err alike; ``image`` is the scene."""

    def draw(rng: np.random.Generator, images: int) -> Answers:
        count = max(1, images // frames)
        scene = np.repeat(np.arange(count), frames)
        hard = rng.normal(size=count)
        logit = 1.6 * hard[scene] + 0.3 * rng.normal(size=len(scene)) - 2.0
        bad = rng.random(count)[scene] < logistic(1.5 * logit)
        risk = logistic(hard[scene] + 0.2 * rng.normal(size=len(scene)) - 1.2)
        return Answers(risk, bad & (rng.random(len(scene)) < 0.95), scene)

    return draw


def frame_by_frame(answers: Answers) -> Answers:
    """The same answers with each frame as an image of its own."""
    return Answers(answers.risk, answers.wrong, np.arange(len(answers.risk)))


def broken_runs(
    draw: Draw, rule: Rule, images: int, runs: int, seen_as: Callable[[Answers], Answers]
) -> tuple[int, int]:
    """Broken runs, and runs with a certificate."""
    rng = np.random.default_rng(14)
    population = draw(rng, 60_000)
    truth = Truth(population.risk, population.wrong)
    broken = issued = 0
    for run in range(runs):
        select, calibrate = draw(rng, images // 2), draw(rng, images)
        threshold = rule(seen_as(select), seen_as(calibrate), ALPHA, run)
        if threshold is not None:
            issued += 1
            broken += truth.above(threshold, ALPHA)
    return broken, issued


CASES: dict[str, tuple[Draw, int, Callable[[Answers], Answers]]] = {
    "unlike sizes": (unlike_sizes, 400, lambda answers: answers),
    "5 frames a scene": (scenes(5), 1500, frame_by_frame),
    "20 frames a scene": (scenes(20), 4000, frame_by_frame),
}
"""What is drawn, images of the calibration split, and how the old test saw it."""


SHORT = ["unlike sizes", "20 frames a scene"]
SIZES = [*((case, 60) for case in SHORT), *(pytest.param(one, 2000, marks=LONG) for one in CASES)]


@pytest.mark.parametrize(("case", "runs"), SIZES)
def test_groups_tested_whole_keep_the_promise(case: str, runs: int) -> None:
    draw, images, _ = CASES[case]
    broken, issued = broken_runs(draw, new_rule(DELTA), images, runs, lambda answers: answers)
    print(f"{case}: {broken} of {runs} broken, {issued} issued")
    assert holds(broken, runs)
    assert issued > runs / 4


@pytest.mark.parametrize(("case", "runs"), SIZES)
def test_the_test_before_broke_it(case: str, runs: int) -> None:
    draw, images, seen_as = CASES[case]
    broken, _ = broken_runs(draw, old_rule(DELTA), images, runs, seen_as)
    print(f"{case}, before: {broken} of {runs} broken")
    assert fails(broken, runs)


BUNDLE = cast(Bundle, SimpleNamespace(id="b-test", model=SimpleNamespace(revision="r1")))


def spent() -> Iterator[float]:
    """Levels of one claim after another on the same lineage."""
    share = fresh_shares()
    return (DELTA * share({}) for _ in count())


def recertified(
    rng: np.random.Generator, growing: bool, levels: Iterator[float], seed: int
) -> bool:
    """Whether any of 20 tries gives out a certificate, where all err a little above alpha."""
    risk, wrong = np.empty(0), np.empty(0, dtype=bool)
    for window in range(20):
        fresh = 100 if growing else 300
        more = rng.random(fresh), rng.random(fresh) < 1.02 * ALPHA
        risk = np.concatenate([risk, more[0]]) if growing else more[0]
        wrong = np.concatenate([wrong, more[1]]) if growing else more[1]
        found = certify_judged(
            BUNDLE, risk, wrong, np.arange(len(risk)).astype(str), limit=1.0, data="d",
            alpha=ALPHA, delta=DELTA, level=next(levels), valid_days=9,
            created=datetime(2026, 3, 1, tzinfo=UTC), seed=20 * seed + window,
        )  # fmt: skip
        if isinstance(found, Certificate):
            return True
    return False


@pytest.mark.parametrize(
    ("growing", "runs"),
    [(False, 25), pytest.param(False, 500, marks=LONG), pytest.param(True, 2000, marks=LONG)],
)
def test_twenty_recertifications_spend_one_delta(growing: bool, runs: int) -> None:
    rng = np.random.default_rng(15)
    broken = sum(recertified(rng, growing, spent(), run) for run in range(runs))
    print(f"growing {growing}: {broken} of {runs} broken")
    assert holds(broken, runs)


@pytest.mark.parametrize(
    ("growing", "runs"),
    [(False, 25), pytest.param(False, 500, marks=LONG), pytest.param(True, 500, marks=LONG)],
)
def test_twenty_recertifications_at_delta_each_break_it(growing: bool, runs: int) -> None:
    rng = np.random.default_rng(16)
    whole = (DELTA for _ in count())
    broken = sum(recertified(rng, growing, whole, run) for run in range(runs))
    print(f"growing {growing}, each at delta: {broken} of {runs} broken")
    assert fails(broken, runs)


def two_stages(rng: np.random.Generator, images: int) -> dict[str, Answers]:
    """The risks of the three self-consistency modes of the same answers, three an image."""
    image = np.repeat(np.arange(images), 3)
    logit = np.repeat(rng.normal(size=images), 3) + rng.normal(size=len(image)) - 1.8
    wrong = rng.random(len(image)) < logistic(2 * logit)
    first = logistic(logit + 0.7 * rng.normal(size=len(image)))
    agreement = rng.binomial(10, np.where(wrong, 0.5, 0.9)) / 10
    second = np.clip(logistic(logit + 0.7 * rng.normal(size=len(image))) - 0.2 * agreement, 0, 1)
    inside = np.ones(len(image), dtype=bool)
    return {
        mode: Answers(composed_risk(first, second, inside, mode, 0.9), wrong, image)
        for mode in CONSISTENCY_MODES
    }


def family(runs: int, rule: Callable[[float], Rule], levels: Callable[[], Iterator[float]]) -> int:
    """Runs in which any certificate of two alphas and three modes is broken."""
    rng = np.random.default_rng(17)
    truths = {m: Truth(a.risk, a.wrong) for m, a in two_stages(rng, 100_000).items()}
    broken = 0
    for run in range(runs):
        select, calibrate = two_stages(rng, 200), two_stages(rng, 400)
        spend, any_broken = levels(), False
        for alpha in (0.10, 0.05):
            for mode in CONSISTENCY_MODES:
                threshold = rule(next(spend))(select[mode], calibrate[mode], alpha, run)
                any_broken |= threshold is not None and truths[mode].above(threshold, alpha)
        broken += any_broken
    return broken


@pytest.mark.parametrize("runs", [20, pytest.param(2000, marks=LONG)])
def test_alphas_and_modes_are_one_claim(runs: int) -> None:
    broken = family(runs, new_rule, spent)
    print(f"{broken} of {runs} broken")
    assert holds(broken, runs)


@LONG
def test_alphas_and_modes_each_at_delta_break_it() -> None:
    """Certificates of one run hang together, so six of them are not six times delta."""
    broken = family(2000, old_rule, lambda: (DELTA for _ in count()))
    print(f"each at delta, before: {broken} of 2000 broken")
    assert fails(broken, 2000)


def small_slice(rng: np.random.Generator, images: int) -> Answers:
    """A slice that errs more than its risk says. ``image`` 0 to 11 stands for the slice."""
    of = rng.choice(12, size=images, p=[0.02, *[0.98 / 11] * 11])
    logit = rng.normal(size=images) + rng.normal(size=images) - 2
    wrong = rng.random(images) < logistic(1.5 * logit + 1.5 * (of == 0))
    return Answers(logistic(logit + 0.5 * rng.normal(size=images)), wrong, of)


def test_a_small_slice_errs_more_than_the_certificate_that_it_shares_says() -> None:
    """What ``scope: pooled`` is there for: the promise is about those slices together."""
    rng = np.random.default_rng(18)
    population = small_slice(rng, 400_000)
    own = Truth(population.risk[population.image == 0], population.wrong[population.image == 0])
    together = Truth(population.risk, population.wrong)
    rule, above, broken, issued = new_rule(DELTA), 0, 0, 0
    for run in range(20):
        select, calibrate = (frame_by_frame(small_slice(rng, size)) for size in (300, 600))
        threshold = rule(select, calibrate, ALPHA, run)
        if threshold is not None:
            issued += 1
            above += own.above(threshold, ALPHA)
            broken += together.above(threshold, ALPHA)
    assert above > issued / 2
    assert holds(broken, 20)
