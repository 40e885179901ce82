import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import _SigmoidCalibration

from probes.calibration import IsotonicMap, PlattMap, calibration_map, fit_isotonic, fit_platt
from probes.errors import BundleError, TrainingError


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


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_maps_survive_serialisation(fit: object) -> None:
    score, wrong = simulated(500)
    fitted = fit(score, wrong)
    again = calibration_map(fitted.to_arrays())
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.predict(score), fitted.predict(score))


def test_no_map() -> None:
    for arrays in ({}, {"platt": np.zeros(3)}, {"isotonic": np.zeros(4)}):
        with pytest.raises(BundleError) as caught:
            calibration_map(arrays)
        assert caught.value.field == "calibration"


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_data_that_cannot_be_fitted(fit: object) -> None:
    with pytest.raises(TrainingError, match="right and wrong"):
        fit(np.arange(3.0), np.ones(3, dtype=bool))
    with pytest.raises(TrainingError, match="not finite"):
        fit(np.array([0.0, np.nan]), np.array([True, False]))


def test_the_maps_are_plain() -> None:
    assert PlattMap(1.0, 0.0).predict(np.zeros(1))[0] == 0.5
    steps = IsotonicMap(np.array([0.0, 2.0]), np.array([0.2, 0.6]))
    np.testing.assert_allclose(steps.predict(np.array([-9.0, 1.0, 9.0])), [0.2, 0.4, 0.6])
