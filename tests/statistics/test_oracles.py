"""Our statistics against other people's: scikit-learn, and MAPIE for the threshold search."""

import numpy as np
import pytest
from mapie.risk_control import control_fwer
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from probes.guarantee.betting import GroupedAnswers, Ladder, fixed_sequence, try_threshold
from probes.stats.metrics import auroc, brier, ece

SEEDS = range(20)


def answers(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logit = 2 * rng.normal(size=count) - 1
    return expit(logit), rng.random(count) < expit(rng.uniform(0.3, 2) * logit)


@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_brier_and_ece_agree_with_scikit_learn(seed: int) -> None:
    risk, wrong = answers(seed, 1500)
    assert auroc(risk, wrong) == pytest.approx(roc_auc_score(wrong, risk))
    assert brier(risk, wrong) == pytest.approx(brier_score_loss(wrong, risk))
    # Bins of a hundred answers each, so that the mean over bins is the error.
    rate, mean = calibration_curve(wrong, risk, n_bins=15, strategy="quantile")
    assert ece(risk, wrong) == pytest.approx(np.abs(rate - mean).mean())


def laddered(seed: int) -> tuple[GroupedAnswers, Ladder]:
    risk, wrong = answers(seed, 400)
    thresholds = np.quantile(answers(seed + 100, 400)[0], np.linspace(0.15, 1, 30))
    tested = GroupedAnswers.of(risk, wrong, np.arange(400), most=1, seed=seed)
    return tested, Ladder(thresholds, np.full(30, 0.6), 1)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_threshold_search_agrees_with_mapie(seed: int, alpha: float) -> None:
    """On the same p-values; its fixed sequence runs from the start too."""
    delta = 0.1
    tested, ladder = laddered(seed)
    tries = [try_threshold(tested, float(one), 0.6, alpha) for one in ladder.thresholds]
    valid = control_fwer(np.array([one.p_value for one in tries]), delta, "fixed_sequence")
    expected = None if len(valid) == 0 else tries[int(valid[-1])]
    assert fixed_sequence(tested, ladder, alpha, delta) == expected


def test_the_comparison_meets_thresholds_and_their_absence() -> None:
    found = [
        fixed_sequence(*laddered(seed), alpha, 0.1) is None
        for seed in SEEDS
        for alpha in (0.05, 0.2)
    ]
    assert 0 < sum(found) < len(found)
