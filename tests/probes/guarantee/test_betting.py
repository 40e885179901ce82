"""The test on sums over groups: what passes, what it counts, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probes.guarantee.betting import (
    BOLDEST,
    GroupedAnswers,
    Ladder,
    TestedThreshold,
    bound_bet,
    error_bound,
    fixed_sequence,
    groups_needed,
    largest_group,
    plan_ladder,
    try_threshold,
)


def grouped(risk: np.ndarray, wrong: np.ndarray, groups: np.ndarray | None = None, most: int = 1):
    names = np.arange(len(risk)) if groups is None else groups
    return GroupedAnswers.of(risk, wrong, names, most=most, seed=0)


def ladder(*thresholds: float, bet: float = 1.0, most: int = 1) -> Ladder:
    return Ladder(np.array(thresholds), np.full(len(thresholds), bet), most)


def test_the_wealth_is_the_product_over_groups() -> None:
    """Two groups by hand: one with a wrong and a right answer, one with two right ones."""
    answers = grouped(
        np.full(4, 0.1), np.array([True, False, False, False]), np.array([0, 0, 1, 1]), most=2
    )
    found = try_threshold(answers, 0.1, 0.5, alpha=0.1)
    wealth = (1 - 0.5 * (1 - 0.2)) * (1 + 0.5 * 0.2)
    assert found == TestedThreshold(0.1, 4, 1, min(1.0, answers.uniform / wealth))
    many = grouped(np.zeros(400), np.zeros(400, dtype=bool))
    p_value = many.uniform * 1.05**-400
    assert try_threshold(many, 0.0, 1.0, 0.05).p_value == pytest.approx(p_value)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 59), (0.01, 299)])
def test_without_an_error_about_59_or_299_groups_are_needed(alpha: float, needed: int) -> None:
    """The boldest bet needs as many as the binomial test did; U only ever helps."""
    bet = BOLDEST / (1 - alpha)
    wealth = math.log1p(bet * alpha) * needed
    assert wealth == pytest.approx(math.log(1 / 0.05), rel=0.02)
    few = groups_needed(np.ones(10), np.zeros(10), alpha, 0.05)
    assert few == pytest.approx(needed, rel=0.02)


def test_how_many_groups_would_do() -> None:
    rng = np.random.default_rng(0)
    assert groups_needed(np.ones(500), rng.random(500) < 0.08, 0.05, 0.05) == math.inf
    wrong = (np.arange(500) % 50 == 0).astype(float)
    needed = groups_needed(np.ones(500), wrong, 0.05, 0.05)
    passed = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        labels = draw.random(round(needed)) < 0.02
        answers = GroupedAnswers.of(
            np.zeros(len(labels)), labels, np.arange(len(labels)), most=1, seed=seed
        )
        passed += try_threshold(answers, 0.0, 0.63 / 0.95, 0.05).p_value <= 0.05
    assert 80 < passed < 180  # about as likely as not, and better thanks to U


def test_the_last_before_the_first_failure() -> None:
    # 100 right, then 20 wrong, then 2,000 right: the last threshold would pass but is not reached.
    risk = np.repeat([0.1, 0.2, 0.3], [100, 20, 2000])
    answers = grouped(risk, risk == 0.2)
    found = fixed_sequence(answers, ladder(0.1, 0.15, 0.2, 0.3, bet=0.8), 0.05, 0.05)
    assert found is not None
    assert (found.threshold, found.accepted, found.wrong) == (0.15, 100, 0)
    loosest = fixed_sequence(answers, ladder(0.3, bet=0.8), 0.05, 0.05)
    assert loosest is not None
    assert (loosest.accepted, loosest.wrong) == (2120, 20)


def test_a_first_threshold_that_fails_ends_it() -> None:
    answers = grouped(np.ones(500), np.zeros(500, bool))
    assert fixed_sequence(answers, ladder(0.5, 1), 0.05, 0.05) is None
    assert fixed_sequence(answers, ladder(), 0.05, 0.05) is None


def test_infinite_risk_is_never_accepted() -> None:
    risk = np.repeat([0.1, np.inf], [100, 50])
    found = fixed_sequence(grouped(risk, np.isinf(risk)), ladder(0.1), 0.05, 0.05)
    assert found is not None
    assert (found.accepted, found.wrong) == (100, 0)


@pytest.mark.parametrize(
    ("steps", "alpha", "level", "message"),
    [
        (ladder(0.2, 0.1), 0.05, 0.05, "strict to loose"),
        (ladder(0.1), 0.0, 0.05, "alpha, level"),
        (ladder(0.1), 0.05, 1.0, "alpha, level"),
        (ladder(0.1, bet=1.1), 0.05, 0.05, "bets"),
        (ladder(0.1, bet=0.6, most=2), 0.05, 0.05, "bets"),
        (ladder(0.1, bet=-0.1), 0.05, 0.05, "bets"),
    ],
)
def test_bad_arguments(steps: Ladder, alpha: float, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_sequence(grouped(np.zeros(9), np.zeros(9, bool)), steps, alpha, level)


def test_a_ladder_starts_where_the_promise_shows_best() -> None:
    risk = np.arange(1, 1001) / 1000
    wrong = np.zeros(1000, dtype=bool)
    wrong[400::2] = True
    found = plan_ladder(risk, wrong, np.arange(1000), alpha=0.1, level=0.05, count=1000)
    assert found.thresholds[0] == pytest.approx(0.4, abs=0.011)
    assert found.thresholds[-1] == 1.0
    assert (np.diff(found.thresholds) > 0).all()
    assert (found.bets > 0).all()
    assert (found.bets * 0.9 < 1).all()
    assert found.most == 1


def test_a_ladder_leaves_out_what_is_never_accepted() -> None:
    risk = np.repeat([0.1, 0.2, np.inf], [100, 100, 100])
    terms = {"alpha": 0.1, "level": 0.05, "count": 100}
    found = plan_ladder(risk, np.zeros(300, bool), np.arange(300) // 3, **terms)
    np.testing.assert_array_equal(found.thresholds, [0.2])
    assert found.most == 3
    empty = plan_ladder(np.full(5, np.inf), np.zeros(5, bool), np.arange(5), **terms)
    assert empty.thresholds.shape == (0,)


def test_at_most_so_many_answers_of_a_group_count() -> None:
    groups = np.repeat(np.arange(500), np.arange(500) % 5 + 1)
    answers = grouped(np.zeros(len(groups)), np.zeros(len(groups), bool), groups, most=3)
    accepted, _ = answers.sums(0.0)
    np.testing.assert_array_equal(np.bincount(accepted.astype(int)), [0, 100, 100, 300])
    assert largest_group(groups) == 5
    again = grouped(np.zeros(len(groups)), np.zeros(len(groups), bool), groups, most=3)
    assert again.uniform == answers.uniform


def test_no_label_chooses_answers_or_u() -> None:
    rng = np.random.default_rng(0)
    groups, risk = np.repeat(np.arange(50), 4), rng.random(200)
    one = GroupedAnswers.of(risk, np.zeros(200, bool), groups, most=2, seed=1)
    other = GroupedAnswers.of(risk, np.ones(200, bool), groups, most=2, seed=1)
    np.testing.assert_array_equal(one.risk, other.risk)
    assert one.uniform == other.uniform
    assert one.uniform != GroupedAnswers.of(risk, risk > 2, groups, most=2, seed=2).uniform


def test_u_is_uniform() -> None:
    drawn = [
        GroupedAnswers.of(np.zeros(1), np.zeros(1, bool), ["a"], most=1, seed=n).uniform
        for n in range(2000)
    ]
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert (np.abs(counts - 200) < 60).all()


def test_the_bound_is_the_error_rate_that_is_just_not_excluded() -> None:
    rng = np.random.default_rng(3)
    accepted = rng.integers(0, 4, size=300).astype(float)
    wrong = rng.binomial(accepted.astype(int), 0.05).astype(float)
    bet = bound_bet(accepted, wrong, level=0.05, count=300, most=3)
    bound = error_bound(accepted, wrong, bet=bet, level=0.05)
    wealth = np.log1p(-bet * (wrong - bound * accepted)).sum()
    assert wealth == pytest.approx(math.log(1 / 0.05))
    assert wrong.sum() / accepted.sum() < bound < 0.12
    assert error_bound(np.ones(3), np.ones(3), bet=0.9, level=0.05) == 1.0
    assert error_bound(np.ones(3), np.zeros(3), bet=0.9, level=0.05) == 1.0  # too few


def test_a_weight_counts_less_of_an_answer() -> None:
    """Two judged with chance 1 weigh what one judged with chance a half does."""
    whole = grouped(np.zeros(2), np.array([True, False]))
    halves = GroupedAnswers.of(
        np.zeros(4), np.array([True, True, False, False]), np.array([0, 0, 1, 1]),
        most=2, seed=0, weight=np.full(4, 0.5),
    )  # fmt: skip
    for one, other in zip(whole.sums(0.0), halves.sums(0.0), strict=True):
        np.testing.assert_array_equal(one, other)
    assert try_threshold(halves, 0.0, 0.5, 0.1).accepted == 4
