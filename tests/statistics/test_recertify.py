"""A certificate from judged answers breaks its promise in at most delta of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import binom

from probes.guarantee.recertify import SHARES, certify_judged, with_certificate
from probes.model.bundle import Bundle
from probes.model.certificate import Certificate

ANSWERS, ALPHA, DELTA, LIMIT = 400, 0.10, 0.05, 0.5
BUNDLE = cast(Bundle, SimpleNamespace(id="b-test", model=SimpleNamespace(revision="r1")))
IMAGES = np.array([f"{number:064x}" for number in range(ANSWERS)])


def certify(risk: Any, wrong: Any, images: Any = IMAGES, **terms: Any) -> Any:
    return certify_judged(
        BUNDLE, risk, wrong, images, limit=LIMIT, data="d", alpha=ALPHA, delta=DELTA,
        created=datetime(2026, 3, 1, tzinfo=UTC), valid_days=90, **terms,
    )  # fmt: skip


@pytest.mark.parametrize("runs", [300, pytest.param(1500, marks=pytest.mark.long)])
@pytest.mark.parametrize("worst", SHARES)
def test_at_the_boundary_of_each_threshold_at_most_delta_of_runs_break_it(
    worst: float, runs: int
) -> None:
    """Above ``worst`` of the limit the error rate of accepted answers lies just over alpha."""
    broken = 0
    for seed in range(runs):
        random = np.random.default_rng([int(worst * 10), seed])
        risk = random.random(ANSWERS) * LIMIT
        # Accepted at a threshold t, answers are wrong at alpha t / (worst limit): just over alpha
        # from worst on.
        chance = np.minimum(1, 2 * 1.02 * ALPHA * risk / (worst * LIMIT))
        outcome = certify(risk, random.random(ANSWERS) < chance, seed=seed)
        if isinstance(outcome, Certificate) and outcome.threshold >= worst * LIMIT - 1e-12:
            broken += 1
    assert binom.sf(broken - 1, runs, DELTA) > 1e-3, f"{broken} of {runs}"


def test_it_finds_the_loosest_threshold_that_holds() -> None:
    random = np.random.default_rng(0)
    risk = random.random(ANSWERS * 4) * LIMIT
    wrong = random.random(ANSWERS * 4) < np.where(risk > 0.6 * LIMIT, 0.6, 0.01)
    images = np.array([f"{number:064x}" for number in range(ANSWERS * 4)])
    outcome = certify(risk, wrong, images)
    assert outcome.threshold == pytest.approx(0.6 * LIMIT)
    assert outcome.delta == DELTA
    assert Certificate.from_dict(outcome.to_dict()) == outcome


def test_at_most_so_many_answers_of_an_image_count() -> None:
    risk, wrong = np.full(ANSWERS, 0.1), np.zeros(ANSWERS, dtype=bool)
    assert isinstance(certify(risk, wrong), Certificate)
    images = np.array([f"{number % 20:064x}" for number in range(ANSWERS)])
    few = certify(risk, wrong, images)
    assert (few.reason, few.groups, few.n) == ("too_few_answers", 20, 20)
    with pytest.raises(Exception, match="too few answers: 0 of 20 wrong"):
        with_certificate(BUNDLE, few, cast(Any, None))
    more = certify(risk, wrong, images, most=20)
    assert (more.groups, more.n) == (20, 400)
