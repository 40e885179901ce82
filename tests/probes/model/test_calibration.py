import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from probes.errors import TrainingError
from probes.fit.calibrate import fit_isotonic, fit_platt, fit_venn_abers
from probes.model.calibration import IsotonicMap, PlattMap, VennAbersMap
from probes.stats.metrics import ece

FITS = [fit_platt, fit_isotonic, fit_venn_abers]


def simulated(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    score = rng.normal(size=count) * 3 + 1
    return score, rng.random(count) < expit(0.8 * score - 2)


def test_platt_finds_the_true_sigmoid() -> None:
    fitted = fit_platt(*simulated(40_000))
    assert fitted.slope == pytest.approx(0.8, abs=0.03)
    assert fitted.intercept == pytest.approx(-2, abs=0.05)


def test_platt_agrees_with_scikit_learn() -> None:
    score, wrong = simulated()
    reference = _SigmoidCalibration().fit(score, wrong)
    found = fit_platt(score, wrong).predict(score)
    np.testing.assert_allclose(found, reference.predict(score), atol=1e-5)


def test_platt_smooths_perfect_separation() -> None:
    score = np.array([-1.0, -1.0, 1.0, 1.0, 1.0])
    # Platt's targets are 1 / (2 + 2) and (3 + 1) / (3 + 2); two points are fitted exactly.
    fitted = fit_platt(score, score > 0).predict(np.array([-1.0, 1.0]))
    np.testing.assert_allclose(fitted, [1 / 4, 4 / 5], atol=1e-5)


def test_platt_of_huge_scores() -> None:
    score, wrong = simulated()
    shifted = fit_platt(score * 1e6 + 1e8, wrong).predict(score * 1e6 + 1e8)
    np.testing.assert_allclose(shifted, fit_platt(score, wrong).predict(score), atol=1e-4)


def test_isotonic_never_falls_and_never_is_certain() -> None:
    score, wrong = simulated()
    risk = fit_isotonic(score, wrong).predict(np.linspace(-100, 100, 500))
    assert (np.diff(risk) >= 0).all()
    assert 0 < risk[0] < risk[-1] < 1


def test_isotonic_pools_adjacent_violators() -> None:
    # 1 before 0 is pooled to 1/2; the ends are held to 1/6 and 5/6.
    fitted = fit_isotonic(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True]))
    np.testing.assert_allclose(fitted.predict(np.arange(4.0)), [1 / 6, 1 / 2, 1 / 2, 5 / 6])


def test_isotonic_agrees_with_scikit_learn() -> None:
    score, wrong = simulated()
    score = np.round(score, 1)  # ties
    reference = IsotonicRegression(out_of_bounds="clip").fit(score, wrong)
    grid = np.unique([-20, *score, 20])
    edge = 1 / (len(wrong) + 2)
    expected = np.clip(reference.predict(grid), edge, 1 - edge)
    np.testing.assert_allclose(fit_isotonic(score, wrong).predict(grid), expected, atol=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_venn_abers_is_two_isotonic_regressions(decimals: int) -> None:
    score, wrong = simulated(60)
    score = np.round(score, decimals)
    fitted = fit_venn_abers(score, wrong)
    grid = np.unique(np.concatenate([score, np.linspace(-12, 12, 49)]))
    for label, found in enumerate(fitted.interval(grid)):
        expected = [
            IsotonicRegression().fit([*score, one], [*wrong, label]).predict([one])[0]
            for one in grid
        ]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_venn_abers_by_hand() -> None:
    fitted = fit_venn_abers(np.array([0.0, 1.0]), np.array([False, True]))
    # Below 0, at it, between, at 1, above; with a right answer there, and with a wrong one.
    np.testing.assert_allclose(fitted.lower, [0, 0, 0, 1 / 2, 1 / 2])
    np.testing.assert_allclose(fitted.upper, [1 / 2, 1 / 2, 1, 1, 1])
    grid = np.array([-1, 0, 0.5, 1, 2])
    np.testing.assert_allclose(fitted.predict(grid), [1 / 3, 1 / 3, 1 / 2, 2 / 3, 2 / 3])


def test_venn_abers_never_falls_and_closes_with_more_answers() -> None:
    grid = np.linspace(-4, 6, 200)
    widths = []
    for count in (100, 1000, 10_000):
        fitted = fit_venn_abers(*simulated(count))
        lower, upper = fitted.interval(grid)
        single = fitted.predict(grid)
        assert (np.diff(lower) >= 0).all()
        assert (np.diff(upper) >= 0).all()
        assert (lower <= single).all()
        assert (single <= upper).all()
        widths.append((upper - lower).mean())
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_venn_abers_calibrates_what_no_sigmoid_can() -> None:
    rng = np.random.default_rng(3)
    score = rng.random(12_000)
    wrong = rng.random(12_000) < np.where(score < 0.5, 0.1, 0.6)
    half = len(score) // 2
    errors = {
        fit: ece(fit(score[:half], wrong[:half]).predict(score[half:]), wrong[half:])
        for fit in FITS
    }
    assert errors[fit_venn_abers] < 0.5 * errors[fit_platt]


def test_venn_abers_is_calibrated_on_average() -> None:
    """Over many small sets the share of wrong answers lies between the means of p0 and p1."""
    rng = np.random.default_rng(4)
    sums = np.zeros(3)
    for _ in range(300):
        score = rng.normal(size=41)
        wrong = rng.random(41) < expit(2 * score)
        if 0 < wrong[1:].sum() < 40:
            lower, upper = fit_venn_abers(score[1:], wrong[1:]).interval(score[:1])
            sums += [lower[0], wrong[0], upper[0]]
    assert sums[0] < sums[1] < sums[2]


@pytest.mark.parametrize("fit", FITS)
def test_data_that_cannot_be_fitted(fit: object) -> None:
    with pytest.raises(TrainingError, match="right and wrong"):
        fit(np.arange(3.0), np.ones(3, dtype=bool))
    with pytest.raises(TrainingError, match="not finite"):
        fit(np.array([0.0, np.nan]), np.array([True, False]))


def test_the_maps_are_plain() -> None:
    assert PlattMap(1.0, 0.0).predict(np.zeros(1))[0] == 0.5
    steps = IsotonicMap(np.array([0.0, 2.0]), np.array([0.2, 0.6]))
    np.testing.assert_allclose(steps.predict(np.array([-9.0, 1.0, 9.0])), [0.2, 0.4, 0.6])
    pair = VennAbersMap(np.array([0.0]), np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6]))
    lower, upper = pair.interval(np.array([-9.0, 0.0, 9.0]))
    np.testing.assert_allclose(lower, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(upper, [0.4, 0.5, 0.6])
