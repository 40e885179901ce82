"""How often the drift alarms without a drift, and how soon with one. Every run is seeded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from probes.monitor.drift import DRIFT_LIMIT, WINDOW, DriftMonitor, RiskHistogram
from probes.types import Missing

STATED = 0.02
"""Runs of 20,000 answers that ever alarm without a drift."""


def risks(
    rng: np.random.Generator, images: int, questions: int, alike: float, shift: float = 0.0
) -> NDArray[np.float64]:
    """Uniform risks (images, questions), on an image of correlation ``alike`` as normal scores."""
    shared, own = rng.normal(size=(images, 1)), rng.normal(size=(images, questions))
    return np.asarray(norm.cdf(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own + shift))


def reference_of(rng: np.random.Generator, questions: int, alike: float) -> RiskHistogram:
    """As the shipped bundles: 1,926 answers."""
    found = risks(rng, 1926 // questions, questions, alike)
    images = np.repeat(np.arange(len(found)).astype(str), questions)
    reference = RiskHistogram.of(found.ravel(), images)
    assert isinstance(reference, RiskHistogram)
    return reference


def ratios_of(reference: RiskHistogram, found: NDArray[np.float64]) -> NDArray[np.float64]:
    """As :class:`DriftMonitor` after every image, with windows that hold whole images."""
    questions, bins = found.shape[1], len(reference.counts)
    images, answers = WINDOW // questions, sum(reference.counts)
    shares = np.array(reference.counts) / answers
    one = np.eye(bins)[np.searchsorted(reference.edges, found, side="left")].mean(axis=1)

    def windows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([np.zeros_like(rows[:1]), rows.cumsum(axis=0)])
        return np.asarray(sums[images:] - sums[:-images])

    pearson = ((windows(one) - images * shares) ** 2 / (images * shares)).sum(axis=1)
    spread = windows((one**2 / shares).sum(axis=1)) / images - 1
    spread = np.maximum(spread, (bins - 1) / questions)
    alike = 1.0 if questions == 1 else (spread / (bins - 1) - 1 / questions) / (1 - 1 / questions)
    assert reference.images is not None
    each = (1 + (answers / reference.images - 1) * alike) / answers
    return np.asarray(pearson / (spread + (bins - 1) * images * each))


@pytest.mark.parametrize("questions", [1, 4])
def test_the_fast_ratios_are_the_monitors(questions: int) -> None:
    rng = np.random.default_rng(40)
    reference = reference_of(rng, questions, 0.3)
    found = risks(rng, 1200 // questions, questions, 0.3)
    monitor = DriftMonitor(reference)
    slow = []
    for number, row in enumerate(found):
        for risk in row:
            monitor.update(float(risk), f"{number}")
        slow.append(monitor.ratio())
    known = [ratio for ratio in slow if not isinstance(ratio, Missing)]
    assert ratios_of(reference, found) == pytest.approx(np.array(known))


def alarms(runs: int, questions: int, alike: float) -> tuple[int, float]:
    """Runs of 20,000 answers that ever alarm, and the mean ratio."""
    rng = np.random.default_rng(41)
    alarmed, means = 0, []
    for _ in range(runs):
        reference = reference_of(rng, questions, alike)
        ratios = ratios_of(reference, risks(rng, 20_000 // questions, questions, alike))
        alarmed += bool(ratios.max() > DRIFT_LIMIT)
        means.append(ratios.mean())
    return alarmed, float(np.mean(means))


SHAPES = [(1, 0.0), (3, 0.0), (3, 0.3), (3, 0.6), (3, 1.0)]


@pytest.mark.parametrize(("questions", "alike"), SHAPES)
def test_without_drift_the_ratio_is_one_on_average_and_hardly_ever_alarms(
    questions: int, alike: float
) -> None:
    runs = 40
    alarmed, mean = alarms(runs, questions, alike)
    assert abs(mean - 1) < 0.15
    assert binom.sf(alarmed - 1, runs, STATED) > 0.001


@pytest.mark.long
@pytest.mark.parametrize(("questions", "alike"), SHAPES)
def test_without_drift_it_hardly_ever_alarms_at_length(questions: int, alike: float) -> None:
    runs = 2000
    alarmed, mean = alarms(runs, questions, alike)
    print(f"{questions} questions, correlation {alike}: {alarmed} of {runs}, mean {mean:.2f}")
    assert abs(mean - 1) < 0.05
    assert binom.sf(alarmed - 1, runs, STATED) > 0.001


@pytest.mark.parametrize(("questions", "alike"), [(1, 0.0), (3, 0.3)])
def test_risks_that_shift_by_half_a_deviation_alarm_within_one_window(
    questions: int, alike: float
) -> None:
    rng = np.random.default_rng(42)
    for _ in range(40):
        shifted = risks(rng, WINDOW // questions, questions, alike, shift=0.5)
        assert ratios_of(reference_of(rng, questions, alike), shifted).max() > DRIFT_LIMIT
