from functools import partial

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from probes.stats.metrics import (
    aurc,
    auroc,
    brier,
    coverage_at_risk,
    e_aurc,
    ece,
    effective_reliability,
    fisher_interval,
    point_biserial,
    reliability_threshold,
)
from probes.types import Interval, Missing

# In order of risk: right, wrong, right, wrong.
RISK = np.array([0.8, 0.1, 0.4, 0.2])
WRONG = np.array([True, False, False, True])
TIED = np.array([0.5, 0.5, 0.5, 0.5])
METRICS = {
    "auroc": auroc,
    "point_biserial": point_biserial,
    "aurc": aurc,
    "e_aurc": e_aurc,
    "brier": brier,
    "ece": partial(ece, bins=3),
    "coverage": partial(coverage_at_risk, level=0.3),
    "reliability": partial(effective_reliability, cost=10, threshold=0.3),
}


def simulated(ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    risk = rng.beta(1, 3, size=3000)
    wrong = rng.random(3000) < risk
    return (np.round(risk, 1) if ties else risk), wrong


def test_auroc_by_hand() -> None:
    assert auroc(RISK, WRONG) == pytest.approx(3 / 4)
    assert auroc(-RISK, WRONG) == pytest.approx(1 / 4)
    assert auroc(TIED, WRONG) == pytest.approx(1 / 2)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_brier_agree_with_scikit_learn(ties: bool) -> None:
    risk, wrong = simulated(ties)
    weight = np.random.default_rng(1).integers(0, 4, size=len(risk)).astype(float)
    assert auroc(risk, wrong) == pytest.approx(roc_auc_score(wrong, risk))
    assert auroc(risk, wrong, weight) == pytest.approx(
        roc_auc_score(wrong, risk, sample_weight=weight)
    )
    assert brier(risk, wrong) == pytest.approx(brier_score_loss(wrong, risk))


def test_point_biserial_by_hand() -> None:
    # Means .5 and .25, population deviation sqrt(.071875), both shares one half.
    assert point_biserial(RISK, WRONG) == pytest.approx(0.25 / np.sqrt(0.071875) / 2)
    assert point_biserial(RISK, WRONG) == pytest.approx(np.corrcoef(RISK, WRONG)[0, 1])


def test_fisher_interval_by_hand() -> None:
    found = fisher_interval(0.43, 3090)
    assert isinstance(found, Interval)
    assert found.lower == pytest.approx(np.tanh(np.arctanh(0.43) - 1.959964 / np.sqrt(3087)))
    assert found.upper == pytest.approx(np.tanh(np.arctanh(0.43) + 1.959964 / np.sqrt(3087)))
    assert fisher_interval(0.2, 3) == Missing("too_few_answers")
    assert fisher_interval(1.0, 30) == Missing("perfect_correlation")


def test_aurc_by_hand() -> None:
    # Selective risks 0/1, 1/2, 1/3, 2/4; the best order gives 0, 0, 1/3, 2/4.
    assert aurc(RISK, WRONG) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert e_aurc(RISK, WRONG) == pytest.approx(1 / 8)
    assert e_aurc(np.where(WRONG, 1.0, 0.0), WRONG) == pytest.approx(0)


def test_aurc_of_ties_is_the_mean_over_orders() -> None:
    assert aurc(TIED, WRONG) == pytest.approx(0.5)
    risk, wrong = simulated(ties=True)
    rng = np.random.default_rng(2)
    orders = [aurc(risk + rng.random(len(risk)) * 1e-9, wrong) for _ in range(200)]
    assert aurc(risk, wrong) == pytest.approx(np.mean(orders), abs=3 * np.std(orders) / 200**0.5)


def test_brier_by_hand() -> None:
    assert brier(RISK, WRONG) == pytest.approx((0.04 + 0.01 + 0.16 + 0.64) / 4)


def test_ece_by_hand() -> None:
    # Bins {.1, .2} and {.4, .8}: |.15 - .5| and |.6 - .5|, each half of the mass.
    assert ece(RISK, WRONG, bins=2) == pytest.approx((0.35 + 0.1) / 2)
    assert ece(TIED, WRONG) == pytest.approx(0)


def test_ece_bins_have_equal_mass() -> None:
    risk = np.linspace(0, 1, 300) ** 4
    wrong = np.zeros(300, dtype=bool)
    wrong[20:] = True  # all of the gap is in known bins
    expected = [abs((risk - wrong)[i * 20 : i * 20 + 20].mean()) for i in range(15)]
    assert ece(risk, wrong) == pytest.approx(np.mean(expected))


def test_coverage_at_risk_by_hand() -> None:
    for level, coverage in [(0.0, 0.25), (0.3, 0.25), (0.34, 0.75), (0.5, 1.0)]:
        assert coverage_at_risk(RISK, WRONG, level=level) == coverage
    assert coverage_at_risk(TIED, WRONG, level=0.4) == 0.0


def test_effective_reliability_by_hand() -> None:
    for threshold, expected in [(None, 0), (0.05, 0), (0.1, 1 / 4), (0.2, -9 / 4), (1, -18 / 4)]:
        found = effective_reliability(RISK, WRONG, cost=10, threshold=threshold)
        assert found == pytest.approx(expected)


def test_reliability_threshold() -> None:
    assert reliability_threshold(RISK, WRONG, cost=10) == 0.1
    assert reliability_threshold(RISK, WRONG, cost=0.1) == 0.4
    assert reliability_threshold(RISK, ~WRONG, cost=10) is None


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_counts_like_copies(name: str, ties: bool) -> None:
    risk, wrong = (values[:300] for values in simulated(ties))
    weight = np.random.default_rng(3).integers(0, 3, size=300)
    copies = np.repeat(np.arange(300), weight)
    found = METRICS[name](risk, wrong, weight.astype(float))
    assert found == pytest.approx(METRICS[name](risk[copies], wrong[copies]))


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_the_answers_does_not_matter(name: str) -> None:
    risk, wrong = simulated(ties=True)
    order = np.random.default_rng(4).permutation(len(risk))
    assert METRICS[name](risk[order], wrong[order]) == pytest.approx(METRICS[name](risk, wrong))


def test_what_is_not_defined_is_missing() -> None:
    never = np.zeros(4, dtype=bool)
    assert auroc(RISK, never) == auroc(RISK, ~never) == Missing("one_class")
    assert point_biserial(RISK, never) == Missing("one_class")
    assert point_biserial(TIED, WRONG) == Missing("constant_score")
    assert brier(RISK + 1, WRONG) == ece(RISK - 1, WRONG) == Missing("not_a_probability")
    assert aurc(RISK, never) == e_aurc(RISK, never) == 0.0
