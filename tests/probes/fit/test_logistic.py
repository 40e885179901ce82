"""The solver for wide tables gives what scikit-learn gives."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probes.errors import TrainingError
from probes.fit.logistic import fit_path

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)


def answers(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    table = rng.normal(size=(rows, 10)) @ rng.normal(size=(10, columns))
    table = table + rng.normal(size=(rows, columns))
    table = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
    logit = table @ rng.normal(size=columns) / columns**0.5 - 1
    return table, rng.random(rows) < 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize(("rows", "columns"), [(400, 30), (150, 300)])
def test_every_fold_and_c_agrees_with_scikit_learn(rows: int, columns: int) -> None:
    table, target = answers(rows, columns)
    fold = np.arange(rows) % 3
    weightings = np.column_stack([fold != 0, fold != 1, np.ones(rows)]).astype(float)
    found = list(fit_path(table, target, weightings, STRENGTHS))
    assert [one.strength for one in found] == list(STRENGTHS)
    for one in found:
        for column, weight in enumerate(weightings.T):
            kept = weight > 0
            model = LogisticRegression(C=one.strength, max_iter=5000, tol=1e-8)
            model.fit(table[kept].astype(np.float64), target[kept])
            expected = model.decision_function(table.astype(np.float64))
            logits = table @ one.weights[:, column] + one.intercepts[column]
            scale = np.abs(expected).max()
            np.testing.assert_allclose(logits, expected, atol=2e-3 * scale)


def test_weights_of_rows_and_a_constant_of_zero() -> None:
    """Whole-number weights count rows twice; without a constant there is no intercept."""
    table, target = answers(200, 5)
    twice = 1.0 + (np.arange(200) < 50)
    (found,) = fit_path(table, target, twice[:, None], (0.1,))
    model = LogisticRegression(C=0.1, tol=1e-8).fit(table, target, sample_weight=twice)
    np.testing.assert_allclose(found.weights[:, 0], model.coef_[0], atol=1e-3)
    (without,) = fit_path(table, target, np.ones((200, 1)), (0.1,), constant=np.zeros(200))
    plain = LogisticRegression(C=0.1, tol=1e-8, fit_intercept=False).fit(table, target)
    np.testing.assert_allclose(without.weights[:, 0], plain.coef_[0], atol=1e-3)
    assert without.intercepts[0] == 0


def test_one_class_in_a_fold_is_refused() -> None:
    table, target = answers(50, 4)
    with pytest.raises(TrainingError, match="every fold"):
        list(fit_path(table, target, target[:, None].astype(float), (1.0,)))


def test_states_that_say_nothing_or_hardly_differ() -> None:
    """A blank image gives every answer to a question the same state."""
    rng = np.random.default_rng(9)
    target = rng.random(300) < 0.4
    few = rng.normal(size=(3, 20)).astype(np.float32)[rng.integers(3, size=300)]
    for table in (np.zeros((300, 20), dtype=np.float32), few):
        for one in fit_path(table, target, np.ones((300, 1)), STRENGTHS):
            chance = 1 / (1 + np.exp(-(table @ one.weights[:, 0] + one.intercepts[0])))
            assert chance.mean() == pytest.approx(target.mean(), abs=1e-3)
