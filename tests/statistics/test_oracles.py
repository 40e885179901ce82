"""Our statistics against other people's: scikit-learn, and MAPIE for the threshold search."""

import numpy as np
import pytest
from mapie.risk_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from probes.guarantee import fixed_sequence
from probes.metrics import auroc, brier, ece

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


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_threshold_search_agrees_with_mapie(seed: int, alpha: float) -> None:
    """Its p-value is the exact binomial tail too, and its fixed sequence runs from the start."""
    delta = 0.1
    risk, wrong = answers(seed, 400)
    thresholds = np.quantile(answers(seed + 100, 400)[0], np.linspace(0.15, 1, 30))
    accepted = np.array([(risk <= one).sum() for one in thresholds])
    errors = np.array([wrong[risk <= one].sum() for one in thresholds])
    # Held just below k / n: its ceil(n k / n) is k + 1 where the quotient was rounded up.
    rates = np.maximum(errors - 1e-6, 0) / accepted
    p_values = compute_hoeffding_bentkus_p_value(rates, accepted, alpha, binary=True)[:, 0]
    valid = control_fwer(p_values, delta, "fixed_sequence")
    found = fixed_sequence(risk, wrong, thresholds, alpha, delta)
    if len(valid) == 0:
        assert found is None
    else:
        last = int(valid[-1])
        assert found is not None
        assert (found.threshold, found.accepted, found.wrong) == (
            thresholds[last], accepted[last], errors[last]
        )  # fmt: skip
        assert found.p_value == pytest.approx(p_values[last])


def test_the_comparison_meets_thresholds_and_their_absence() -> None:
    found = [
        fixed_sequence(*answers(seed, 400), np.linspace(0.1, 1, 30), alpha, 0.1) is None
        for seed in SEEDS
        for alpha in (0.05, 0.2)
    ]
    assert 0 < sum(found) < len(found)
