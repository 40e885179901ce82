"""How often the drift alarms without a drift, and how soon with one. Every run is seeded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from probes.drift import DRIFT_LIMIT, WINDOW, DriftMonitor, RiskHistogram
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


def path(monitor: DriftMonitor, found: NDArray[np.float64], every: int = 20) -> list[float]:
    """Ratios after every so many answers."""
    ratios = []
    for number, row in enumerate(found):
        for risk in row:
            monitor.update(float(risk), f"{number}")
        ratio = monitor.ratio()
        if number % every == 0 and not isinstance(ratio, Missing):
            ratios.append(ratio)
    return ratios


def alarms(runs: int, questions: int, alike: float, answers: int = 20_000) -> tuple[int, float]:
    """Runs that ever alarm, and the mean ratio."""
    rng = np.random.default_rng(41)
    alarmed, means = 0, []
    for _ in range(runs):
        monitor = DriftMonitor(reference_of(rng, questions, alike))
        ratios = path(monitor, risks(rng, answers // questions, questions, alike))
        alarmed += max(ratios) > DRIFT_LIMIT
        means.append(np.mean(ratios))
    return alarmed, float(np.mean(means))


SHAPES = [(1, 0.0), (3, 0.0), (3, 0.3), (3, 0.6), (3, 1.0)]


@pytest.mark.parametrize(("questions", "alike"), SHAPES)
def test_without_drift_the_ratio_is_one_on_average_and_hardly_ever_alarms(
    questions: int, alike: float
) -> None:
    runs = 6
    alarmed, mean = alarms(runs, questions, alike, 6000)
    assert 0.7 < mean < 1.3
    assert binom.sf(alarmed - 1, runs, STATED) > 0.001


@pytest.mark.long
@pytest.mark.parametrize(("questions", "alike"), SHAPES)
def test_without_drift_it_hardly_ever_alarms_at_length(questions: int, alike: float) -> None:
    runs = 300
    alarmed, mean = alarms(runs, questions, alike)
    print(f"{questions} questions, correlation {alike}: {alarmed} of {runs}, mean {mean:.2f}")
    assert abs(mean - 1) < 0.06
    assert binom.sf(alarmed - 1, runs, STATED) > 0.001


@pytest.mark.parametrize(("questions", "alike"), [(1, 0.0), (3, 0.3)])
def test_risks_that_shift_by_half_a_deviation_alarm_within_one_window(
    questions: int, alike: float
) -> None:
    rng = np.random.default_rng(42)
    for _ in range(10):
        monitor = DriftMonitor(reference_of(rng, questions, alike))
        path(monitor, risks(rng, WINDOW // questions, questions, alike))
        shifted = risks(rng, WINDOW // questions + 1, questions, alike, shift=0.5)
        after = DriftMonitor(monitor.reference)
        ratios = path(after, shifted, every=1)
        assert ratios[-1] > DRIFT_LIMIT
