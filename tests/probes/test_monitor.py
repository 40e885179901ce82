"""Audits, the error monitor's state, the audited AUROC and the drift window."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from probes.audit import choose_audit
from probes.drift import DriftMonitor, RiskHistogram
from probes.metrics import auroc
from probes.monitor import BETS, ErrorMonitor, log_capital
from probes.ranking import audited_auroc
from probes.types import Interval, Missing

SECRET = b"0123456789abcdef"
FROZEN = ["answer-18", "answer-24", "answer-50", "answer-57"]


def test_the_audit_is_the_same_everywhere_and_keeps_what_a_lower_rate_selected() -> None:
    ids = [f"answer-{i}" for i in range(20_000)]
    low = {i for i in ids if choose_audit(i, 0.1, SECRET).selected}
    high = {i for i in ids if choose_audit(i, 0.2, SECRET).selected}
    assert low < high
    assert abs(len(low) / len(ids) - 0.1) < 4 * math.sqrt(0.09 / len(ids))
    other = {i for i in ids if choose_audit(i, 0.1, b"another secret..").selected}
    assert abs(len(low & other) / len(ids) - 0.01) < 4 * math.sqrt(0.0099 / len(ids))
    # a frozen draw: another build must choose alike
    assert [i for i in ids[:60] if i in low] == FROZEN


def test_the_audit_records_its_probability_and_covers_the_ends() -> None:
    assert choose_audit("a", 0.25, SECRET).inclusion_probability == 0.25
    assert all(choose_audit(str(i), 1.0, SECRET).selected for i in range(100))
    assert not any(choose_audit(str(i), 0.0, SECRET).selected for i in range(100))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        choose_audit("a", rate, SECRET)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        choose_audit("a", 0.1, b"")


def stream(count: int, rate: float, seed: int = 0) -> list[tuple[float, bool]]:
    rng = np.random.default_rng(seed)
    probability = rng.choice([0.02, 0.05, 0.1], size=count)
    return list(zip(probability.tolist(), (rng.random(count) < rate).tolist(), strict=True))


def fed(audits: list[tuple[float, bool]], **settings: float) -> ErrorMonitor:
    monitor = ErrorMonitor(
        **({"alpha": 0.05, "delta": 0.05, "minimum_probability": 0.02} | settings)
    )
    for probability, wrong in audits:
        monitor.open(probability)
        monitor.close(probability, wrong)
    return monitor


def test_one_audit_has_the_capital_of_the_formula() -> None:
    weight, rate = 0.4, 0.05
    wrong = math.log(np.mean(1 + BETS * weight * (1 - rate) / rate))
    right = math.log(np.mean(1 - BETS * weight))
    assert log_capital(np.array([weight]), np.array([True]), rate)[0] == pytest.approx(wrong)
    assert log_capital(np.array([weight]), np.array([False]), rate)[0] == pytest.approx(right)
    # fair at the claim: the capital's mean is one
    assert rate * math.exp(wrong) + (1 - rate) * math.exp(right) == pytest.approx(1.0)


def test_the_certificate_is_void_exactly_when_the_lower_bound_has_exceeded_alpha() -> None:
    monitor = ErrorMonitor(alpha=0.05, delta=0.05, minimum_probability=0.02)
    highest, turns = 0.0, 0
    for probability, wrong in stream(400, 0.2):
        monitor.open(probability)
        monitor.close(probability, wrong)
        interval = monitor.interval()
        assert isinstance(interval, Interval)
        assert 0 <= interval.lower <= interval.estimate <= interval.upper <= 1
        was = highest > 0.05
        highest = max(highest, interval.lower)
        assert monitor.void == (highest > 0.05)
        turns += monitor.void != was
    assert turns == 1


def test_a_voided_certificate_stays_void_when_the_error_falls_again() -> None:
    monitor = fed([(0.1, True)] * 12 + [(0.1, False)] * 2000, minimum_probability=0.1)
    interval = monitor.interval()
    assert isinstance(interval, Interval)
    assert interval.lower < 0.05
    assert monitor.void


def test_the_state_is_json_and_does_not_depend_on_the_order() -> None:
    audits = stream(300, 0.04)
    one, two = fed(audits), fed(audits[::-1])
    assert one.to_dict() == two.to_dict()
    restored = ErrorMonitor.from_dict(json.loads(json.dumps(one.to_dict())))
    replayed = ErrorMonitor.replay(audits, 0.05, 0.05, 0.02)
    assert restored.to_dict() == one.to_dict() == replayed.to_dict()
    assert restored.interval() == replayed.interval()
    more = [(0.02, True)] * 40  # and all of them go on alike
    assert fed(audits + more).void
    for monitor in (restored, replayed):
        for probability, wrong in more:
            monitor.open(probability)
            monitor.close(probability, wrong)
        assert monitor.to_dict() == fed(audits + more).to_dict()


def test_replay_finds_a_void_that_later_outcomes_hide() -> None:
    audits: list[tuple[float, bool | None]] = [(0.1, True)] * 12
    audits += [(0.1, False)] * 2000 + [(0.1, None)]
    monitor = ErrorMonitor.replay(audits, 0.05, 0.05, 0.1)
    assert monitor.void
    assert monitor.awaiting == 1
    assert not ErrorMonitor.replay([], 0.05, 0.05, 0.1).void


def test_open_audits_count_as_right_below_and_as_wrong_above() -> None:
    monitor = fed([(0.1, True)] * 5 + [(0.1, False)] * 95, minimum_probability=0.1)
    before = monitor.interval()
    for _ in range(20):
        monitor.open(0.1)
    between = monitor.interval()
    assert isinstance(before, Interval)
    assert isinstance(between, Interval)
    assert monitor.awaiting == 20
    assert between.estimate == before.estimate
    all_right = fed([(0.1, True)] * 5 + [(0.1, False)] * 115, minimum_probability=0.1).interval()
    all_wrong = fed([(0.1, True)] * 25 + [(0.1, False)] * 95, minimum_probability=0.1).interval()
    assert isinstance(all_right, Interval)
    assert isinstance(all_wrong, Interval)
    assert between.lower == all_right.lower < before.lower
    assert between.upper == all_wrong.upper > before.upper


def test_the_estimate_weighs_by_the_inverse_probability() -> None:
    interval = fed([(0.02, True), (0.1, False), (0.1, False)]).interval()
    assert isinstance(interval, Interval)
    assert interval.estimate == pytest.approx(50 / 70)


def test_without_outcomes_there_is_no_estimate() -> None:
    monitor = ErrorMonitor(0.05, 0.05, 0.02)
    assert monitor.interval() == Missing("no_outcomes")
    monitor.open(0.02)
    assert monitor.interval() == Missing("no_outcomes")


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    monitor = ErrorMonitor(0.05, 0.05, 0.02)
    with pytest.raises(ValueError, match="no open audit"):
        monitor.close(0.02, wrong=True)
    for probability in (0.01, 1.5, math.nan):
        with pytest.raises(ValueError, match="minimum"):
            monitor.open(probability)
    assert monitor.to_dict()["audits"] == []
    for settings in ((0.0, 0.05, 0.1), (0.05, 1.0, 0.1), (0.05, 0.05, 0.0)):
        with pytest.raises(ValueError, match="must lie"):
            ErrorMonitor(*settings)


def test_audited_auroc_is_the_weighted_auroc() -> None:
    rng = np.random.default_rng(3)
    wrong = rng.random(300) < 0.3
    risk = np.round(rng.normal(size=300) + wrong, 1)  # with ties
    probability = rng.choice([0.1, 0.5], size=300)
    interval = audited_auroc(risk, wrong, probability)
    assert isinstance(interval, Interval)
    assert interval.estimate == pytest.approx(auroc(risk, wrong, 1 / probability))
    assert 0 < interval.lower < interval.estimate < interval.upper < 1


def test_audited_auroc_of_a_perfect_ranking_still_has_a_lower_bound() -> None:
    wrong = np.arange(40) >= 20
    interval = audited_auroc(wrong.astype(float), wrong, np.ones(40))
    assert isinstance(interval, Interval)
    assert interval.estimate == interval.upper == 1
    assert 0.5 < interval.lower < 1


def test_audited_auroc_needs_answers_of_both_kinds_and_finite_risks() -> None:
    wrong = np.arange(40) >= 31
    assert audited_auroc(np.arange(40.0), wrong, np.ones(40)) == Missing("too_few_answers")
    with pytest.raises(ValueError, match="risk"):
        audited_auroc(np.full(40, np.nan), wrong, np.ones(40))
    with pytest.raises(ValueError, match="probability"):
        audited_auroc(np.arange(40.0), wrong, np.zeros(40))


def test_the_histogram_has_bins_of_equal_mass_and_copes_with_ties() -> None:
    reference = RiskHistogram.of(np.arange(1000) / 1000)
    assert reference == RiskHistogram(
        tuple((k * 100 - 1) / 1000 for k in range(1, 10)), (100,) * 10
    )
    tied = RiskHistogram.of(np.repeat([0.1, 0.4, 0.9], [700, 200, 100]))
    assert tied == RiskHistogram((0.1, 0.4), (700, 200, 100))
    assert RiskHistogram.from_dict(json.loads(json.dumps(tied.to_dict()))) == tied
    assert RiskHistogram.of(np.full(1000, 0.2)) == Missing("constant_risk")
    assert RiskHistogram.of(np.arange(99.0)) == Missing("too_few_answers")
    with pytest.raises(ValueError, match="counts"):
        RiskHistogram((0.5,), (10, 0))


def test_the_drift_ratio_is_pearsons_over_its_mean_of_the_last_answers() -> None:
    reference = RiskHistogram((0.1, 0.4), (700, 200, 100))
    monitor = DriftMonitor(reference, window=10)
    risks = [0.9] * 30 + [0.1, 0.05, 0.1, 0.1, 0.2, 0.4, 0.3, 0.41, 0.9, 0.1]
    for count, risk in enumerate(risks):
        if count < 10:
            assert monitor.ratio() == Missing("window_not_full")
        monitor.update(risk)
    pearson = (5 - 7) ** 2 / 7 + (3 - 2) ** 2 / 2 + (2 - 1) ** 2 / 1
    assert monitor.ratio() == pytest.approx(pearson / (2 * 1.01))
    assert DriftMonitor(reference, 10, recent=risks[-10:]).ratio() == monitor.ratio()


def test_the_drift_window_is_saved_and_goes_on_alike() -> None:
    reference = RiskHistogram((0.1, 0.4), (700, 200, 100))
    monitor = DriftMonitor(reference, 50, recent=np.random.default_rng(0).random(80).tolist())
    state = json.loads(json.dumps(monitor.to_dict()))
    restored = DriftMonitor.from_dict(reference, state)
    for risk in (0.05, 0.5, 0.3):
        monitor.update(risk)
        restored.update(risk)
    assert restored.to_dict() == monitor.to_dict()
    assert restored.ratio() == monitor.ratio()
    assert sum(Counter(state["bins"]).values()) == 50
    with pytest.raises(ValueError, match="bins"):
        DriftMonitor.from_dict(reference, {"window": 50, "bins": [3]})
    with pytest.raises(ValueError, match="risk"):
        monitor.update(math.nan)


@pytest.mark.parametrize("wrongs", [0, 2, 6])
def test_audits_whose_order_is_forgotten_still_count(wrongs: int) -> None:
    old = [(0.5, False)] * 20 + [(0.25, True)] * 2 + [(0.5, None)]
    new: list[tuple[float, bool | None]] = [(0.25, True)] * wrongs + [(0.5, False)] * 9
    before = [(0.25, 2, 0, 0), (0.5, 0, 20, 1)]
    whole = ErrorMonitor.replay([*old, *new], 0.05, 0.05, 0.25)
    assert ErrorMonitor.replay(new, 0.05, 0.05, 0.25, before).to_dict() == whole.to_dict()
    assert whole.void == (wrongs > 1)
