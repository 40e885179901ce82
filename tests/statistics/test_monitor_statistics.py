"""The monitor on simulated streams with known truth. Every run is seeded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from probes.monitor.error_rate import Draw, ErrorMonitor, log_capital
from probes.monitor.ranking import audited_auroc
from probes.types import Interval

DELTA = 0.05
RUNS = 600
AUDITS_NEEDED = {0.05: 500, 0.10: 250}
"""Within so many audits an error rate of 2 alpha voids the certificate in 90 % of runs."""

Stream = Callable[[np.random.Generator, float, int], tuple[NDArray[np.float64], NDArray[np.bool_]]]


def voids(weight: NDArray[np.float64], wrong: NDArray[np.bool_], alpha: float) -> bool:
    """Whether audits of one answer per image ever void a certificate."""
    return bool(log_capital(weight * wrong, weight, alpha).max() >= math.log(1 / DELTA))


def equal(
    rng: np.random.Generator, rate: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Audits with one inclusion probability: weights (n,) and outcomes (n,)."""
    return np.ones(count), rng.random(count) < rate


def by_risk(
    rng: np.random.Generator, rate: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Half of the answers err at 1/3 of the rate, half at 5/3; those are audited twice as often."""
    risky = rng.random(2 * count * 10) < 0.5
    kept = risky[rng.random(len(risky)) < np.where(risky, 0.2, 0.1)][:count]
    assert len(kept) == count
    weight = np.where(kept, 0.5, 1.0)
    return weight, rng.random(count) < np.where(kept, 5 / 3, 1 / 3) * rate


def at_most(voided: int, runs: int, delta: float = DELTA) -> bool:
    """The binomial test at level 0.1 % does not refute that the chance is at most delta."""
    return bool(binom.sf(voided - 1, runs, delta) > 0.001)


@pytest.mark.parametrize("draw", [equal, by_risk])
@pytest.mark.parametrize("alpha", [0.05, 0.10])
def test_at_alpha_at_most_delta_of_runs_are_ever_voided(alpha: float, draw: Stream) -> None:
    rng = np.random.default_rng(5)
    voided = 0
    for _ in range(RUNS):  # stopped at the most damning moment of 1,000 audits
        weight, wrong = draw(rng, alpha, 1000)
        voided += voids(weight, wrong, alpha)
    assert at_most(voided, RUNS)
    assert voided > 0


def test_a_test_that_looks_again_and_again_without_betting_breaks_the_promise() -> None:
    """The simulation can tell: an exact binomial test after every audit voids far too often."""
    rng = np.random.default_rng(5)
    counts = np.arange(1, 1001)
    voided = 0
    for _ in range(RUNS):
        errors = equal(rng, 0.05, 1000)[1].cumsum()
        voided += bool((binom.sf(errors - 1, counts, 0.05) <= DELTA).any())
    assert not at_most(voided, RUNS)


def test_audits_by_risk_without_weights_break_the_promise() -> None:
    rng = np.random.default_rng(6)
    voided = 0
    for _ in range(RUNS):
        _, wrong = by_risk(rng, 0.05, 1000)
        voided += voids(np.ones(1000), wrong, 0.05)
    assert not at_most(voided, RUNS)


@pytest.mark.parametrize("draw", [equal, by_risk])
@pytest.mark.parametrize("alpha", [0.05, 0.10])
def test_at_twice_alpha_nine_of_ten_runs_are_voided_in_time(alpha: float, draw: Stream) -> None:
    rng = np.random.default_rng(7)
    voided = 0
    for _ in range(RUNS):
        weight, wrong = draw(rng, 2 * alpha, AUDITS_NEEDED[alpha])
        voided += voids(weight, wrong, alpha)
    # significantly above 90 %, not by luck
    assert binom.sf(voided - 1, RUNS, 0.9) < 0.05


def voided_with_delays(rng: np.random.Generator, rate: float, unseen: float) -> bool:
    """Errors are reported at once, right answers 50 audits later, some of these never."""
    draws: list[Draw] = []
    pending = []
    for number, wrong in enumerate(rng.random(400) < rate):
        draws.append(Draw(str(number), str(number), 0.1, 0.1, True if wrong else None))
        if wrong:
            if ErrorMonitor.replay(draws, 0.10, DELTA).void:
                return True
        elif rng.random() >= unseen:
            pending.append(number)
        if len(pending) > 50:
            known = pending.pop(0)
            draws[known] = replace(draws[known], wrong=False)
    return False


def test_delays_and_gaps_that_depend_on_the_outcome_keep_the_level() -> None:
    rng = np.random.default_rng(8)
    runs = 60
    assert at_most(sum(voided_with_delays(rng, 0.10, 0.5) for _ in range(runs)), runs)
    detected = sum(voided_with_delays(rng, 0.20, 0.5) for _ in range(30))
    assert detected >= 26


def test_the_weighted_bounds_cover_the_truth_at_all_times_and_naive_ones_do_not() -> None:
    """Escalated answers are all judged, risky accepted ones more often than the others."""
    rng = np.random.default_rng(9)
    runs, looks = 100, (50, 200, 800)
    covered = naive_all = naive_audits = close = 0
    truth = accepted_error()
    for _ in range(runs):
        risk = rng.beta(1, 8, size=20_000)
        accepted = risk <= 0.15
        wrong = rng.random(len(risk)) < risk
        probability = np.where(accepted, np.where(risk > 0.07, 0.1, 0.05), 1.0)
        labelled = rng.random(len(risk)) < probability
        audits = np.flatnonzero(labelled & accepted)
        inside = True
        for look in looks:
            seen = [
                Draw(str(i), str(i), float(probability[i]), 0.05, bool(wrong[i]))
                for i in audits[:look]
            ]
            interval = ErrorMonitor.replay(seen, 0.10, DELTA).interval()
            assert isinstance(interval, Interval)
            inside &= interval.lower <= truth <= interval.upper
        covered += inside
        close += abs(interval.estimate - truth) < 0.03
        everything = wrong[labelled]
        naive_all += _wald_covers(everything, truth)
        naive_audits += _wald_covers(wrong[audits], truth)
    assert at_most(runs - covered, runs, 2 * DELTA)
    assert close >= 0.95 * runs
    assert naive_all == 0
    assert naive_audits < 0.8 * runs


def accepted_error() -> float:
    """Mean of a Beta(1, 8) below 0.15: its risks are calibrated."""
    grid = (np.arange(200_000) + 0.5) / 200_000 * 0.15
    density = (1 - grid) ** 7
    return float(grid @ density / density.sum())


def _wald_covers(wrong: NDArray[np.bool_], truth: float) -> bool:
    rate = wrong.mean()
    return bool(abs(rate - truth) <= 1.96 * math.sqrt(rate * (1 - rate) / len(wrong)))


@pytest.mark.parametrize(("shift", "high"), [(1.0, 0.1), (2.0, 0.1), (1.0, 0.2)])
def test_the_auroc_interval_covers_the_auroc_of_all_answers(shift: float, high: float) -> None:
    """Audited at 10 %, or at 20 % where the signal is high."""
    rng = np.random.default_rng(10)
    truth = float(norm.cdf(shift / math.sqrt(2)))
    covered = 0
    for _ in range(400):
        wrong = rng.random(4000) < 0.08
        risk = rng.normal(size=4000) + shift * wrong
        probability = np.where(risk > 0.5, high, 0.1)
        seen = rng.random(4000) < probability
        interval = audited_auroc(risk[seen], wrong[seen], probability[seen])
        assert isinstance(interval, Interval)
        covered += interval.lower <= truth <= interval.upper
    assert covered >= 0.92 * 400
