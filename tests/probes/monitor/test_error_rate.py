"""Audits, the error monitor's state, the audited AUROC and the drift window."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from probes.monitor.audit import choose_audit
from probes.monitor.drift import DRIFT_LIMIT, DriftMonitor, RiskHistogram
from probes.monitor.error_rate import BETS, MOST_ANSWERS, Draw, ErrorMonitor, log_capital, spread
from probes.monitor.ranking import audited_auroc
from probes.stats.metrics import auroc
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
    assert choose_audit("a", 0.25, SECRET).reference == 0.25
    assert choose_audit("a", 0.25, SECRET, 0.1) == replace(
        choose_audit("a", 0.25, SECRET), reference=0.1
    )
    assert all(choose_audit(str(i), 1.0, SECRET).selected for i in range(100))
    assert not any(choose_audit(str(i), 0.0, SECRET).selected for i in range(100))


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        choose_audit("a", rate, SECRET)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        choose_audit("a", 0.1, b"")


def draw(number: int, wrong: bool | None, group: str | None = None, **changes: float) -> Draw:
    fields = {"probability": 0.1, "reference": 0.1, **changes}
    return Draw(f"answer {number}", group or f"image {number}", wrong=wrong, **fields)


def replayed(*wrongs: bool | None, alpha: float = 0.05, delta: float = 0.05) -> ErrorMonitor:
    """One audit on each image."""
    return ErrorMonitor.replay([draw(n, w) for n, w in enumerate(wrongs)], alpha, delta)


def test_one_image_has_the_capital_of_the_formula() -> None:
    rate, weight = 0.05, 0.4
    wrong = np.mean(1 + BETS * weight * (1 - rate) / rate)
    right = np.mean(1 - BETS * weight)
    later = 1 / math.log(math.e + 1) / 2  # has not begun to bet
    for factor, found in ((wrong, weight), (right, 0.0)):
        capital = log_capital(np.array([found]), np.array([weight]), rate)[0]
        assert math.exp(capital) == pytest.approx((1 - later) * factor + later)
    # fair at the claim: the capital's mean is one
    assert rate * wrong + (1 - rate) * right == pytest.approx(1.0)


def test_the_mixture_over_starts_is_the_sum_that_it_says() -> None:
    rng = np.random.default_rng(0)
    wrong = (rng.random(12) < 0.3).astype(float)
    waiting = [1 / math.log(math.e + k) for k in range(13)]
    weights = [(waiting[k] - waiting[k + 1]) / 2 for k in range(12)]
    weights[0] += 0.5
    for n in range(1, 13):
        factors = 1 + BETS * (wrong[:n, None] / 0.1 - 1)
        started = sum(weights[k] * factors[k:].prod(axis=0).mean() for k in range(n))
        found = log_capital(wrong, np.ones(12), 0.1)[n - 1]
        assert math.exp(found) == pytest.approx(started + waiting[n] / 2)


def test_an_image_is_one_bet_however_many_answers_it_has() -> None:
    many = [draw(n, True, "one image") for n in range(40)]
    monitor = ErrorMonitor.replay(many, 0.05, 0.05)
    assert monitor.sums.tolist() == [[MOST_ANSWERS, 0, 0]]
    assert not monitor.void
    assert replayed(*[True] * 5).void


def test_answers_of_an_image_share_its_weight_whatever_their_order() -> None:
    mixed = [draw(n, n % 4 == 0, "one image") for n in range(40)]
    sums = ErrorMonitor.replay(mixed, 0.05, 0.05).sums
    assert sums == pytest.approx(np.array([[2.5, 7.5, 0]]))
    assert ErrorMonitor.replay(mixed[::-1], 0.05, 0.05).sums == pytest.approx(sums)


def test_audits_of_images_in_turns_have_one_history_of_the_capital() -> None:
    """After each audit the capital is that of all images as they stand then, by the formula."""
    rng = np.random.default_rng(1)
    draws = [draw(n, bool(rng.random() < 0.1), f"image {rng.integers(30)}") for n in range(300)]
    found = ErrorMonitor.replay(draws, 0.05, 0.05).capital
    for end in (1, 2, 3, 7, 40, 299, 300):
        sums = ErrorMonitor.replay(draws[:end], 0.05, 0.05).sums
        then = log_capital(sums[:, 0], sums.sum(axis=1), 0.05)[-1]
        assert found[end - 1] == pytest.approx(then + math.log(0.05))


def test_a_late_answer_changes_its_image_where_it_stands() -> None:
    early = [draw(0, True, "a"), draw(1, False, "b")]
    monitor = ErrorMonitor.replay([*early, draw(2, False, "a")], 0.05, 0.05)
    assert monitor.sums.tolist() == [[1, 1, 0], [0, 1, 0]]


def test_a_later_rate_weighs_nothing_anew_and_another_reference_is_heard() -> None:
    early = [draw(n, n % 20 == 0, probability=1, reference=1) for n in range(100)]
    late = [draw(n, False, probability=0.02, reference=0.02) for n in range(100, 103)]
    both = ErrorMonitor.replay([*early, *late], 0.05, 0.05).sums
    assert (both[:100] == ErrorMonitor.replay(early, 0.05, 0.05).sums).all()
    assert (both.sum(axis=1) == 1).all()
    straddling = draw(103, True, "image 1", probability=0.04, reference=0.02)
    sums = ErrorMonitor.replay([*early, straddling], 0.05, 0.05).sums
    assert sums[1].tolist() == [0.5, 1, 0]
    assert (np.delete(sums, 1, axis=0) == np.delete(both[:100], 1, axis=0)).all()


@pytest.mark.parametrize("rates", [(0.02, 1.0), (1.0, 0.02), (0.02, 0.5, 0.1)])
def test_another_audit_rate_does_not_silence_images_that_were_seen(
    rates: tuple[float, ...],
) -> None:
    seen = [
        draw(n, False, f"image {n % 40}", probability=rates[0], reference=rates[0])
        for n in range(40)
    ]
    later = [
        draw(100 + n, True, f"image {n % 40}", probability=rate, reference=rate)
        for rate in rates[1:]
        for n in range(100)
    ]
    assert not ErrorMonitor.replay(seen, 0.05, 0.05).void
    assert ErrorMonitor.replay([*seen, *later], 0.05, 0.05).void


def test_what_was_drawn_more_often_weighs_less() -> None:
    near = [draw(0, True, "a", probability=0.4), draw(1, False, "a")]
    assert ErrorMonitor.replay(near, 0.05, 0.05).sums == pytest.approx(np.array([[0.25, 1, 0]]))


def test_a_void_stays_when_the_error_falls_again_and_goes_when_a_word_was_mistaken() -> None:
    wrong, later = [True] * 5, [False] * 2000
    monitor = replayed(*wrong, *later)
    assert monitor.void
    assert monitor.evidence == replayed(*wrong).evidence
    interval = monitor.interval()
    assert isinstance(interval, Interval)
    assert interval.lower < 0.05
    assert not replayed(*wrong[1:], *later).void


def test_without_audits_the_evidence_is_what_it_began_with() -> None:
    assert replayed().evidence == 0.05
    assert replayed().interval() == Missing("no_outcomes")
    assert replayed(None).interval() == Missing("no_outcomes")
    assert replayed(None).evidence == replayed(False).evidence < 0.05


def test_open_audits_count_as_right_below_and_as_wrong_above() -> None:
    known = [True] * 5 + [False] * 95
    between = replayed(*known, *[None] * 20).interval()
    all_right, all_wrong = (replayed(*known, *[w] * 20).interval() for w in (False, True))
    before = replayed(*known).interval()
    for interval in (between, all_right, all_wrong, before):
        assert isinstance(interval, Interval)
        assert 0 <= interval.lower <= interval.estimate <= interval.upper <= 1
    assert isinstance(between, Interval)
    assert isinstance(before, Interval)
    assert between.estimate == before.estimate
    assert between.lower == all_right.lower < before.lower
    assert between.upper == all_wrong.upper > before.upper


def test_the_estimate_weighs_by_the_inverse_probability() -> None:
    draws = [draw(0, True, probability=0.02, reference=0.02), draw(1, False), draw(2, False)]
    interval = ErrorMonitor.replay(draws, 0.05, 0.05).interval()
    assert isinstance(interval, Interval)
    assert interval.estimate == pytest.approx(50 / 70)


def test_what_does_not_fit_is_refused() -> None:
    for changes in ({"probability": 1.5}, {"reference": 0.2}, {"reference": 0.0}):
        with pytest.raises(ValueError, match="must lie in"):
            draw(0, True, **changes)
    with pytest.raises(ValueError, match="probability"):
        draw(0, True, probability=math.nan)
    for alpha, delta in ((0.0, 0.05), (0.05, 1.0)):
        with pytest.raises(ValueError, match="must lie"):
            ErrorMonitor.replay([], alpha, delta)


def test_counts_without_an_order_are_spread_evenly() -> None:
    draws = spread(0.5, (2, 5, 1), "b-1")
    assert [one.wrong for one in draws] == [False, True, False, False, None, False, True, False]
    assert len({one.group for one in draws}) == 8


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
    images = np.repeat(np.arange(500).astype(str), 2)
    grouped = RiskHistogram.of(np.arange(1000) / 1000, images)
    assert isinstance(grouped, RiskHistogram)
    assert (grouped.counts, grouped.images) == ((100,) * 10, 500)
    assert RiskHistogram.from_dict(json.loads(json.dumps(grouped.to_dict()))) == grouped
    tied = RiskHistogram.of(np.repeat([0.1, 0.4, 0.9], [700, 200, 100]))
    assert tied == RiskHistogram((0.1, 0.4), (700, 200, 100))
    assert RiskHistogram.from_dict(json.loads(json.dumps(tied.to_dict()))) == tied
    assert RiskHistogram.of(np.full(1000, 0.2)) == Missing("constant_risk")
    assert RiskHistogram.of(np.arange(99.0)) == Missing("too_few_answers")
    with pytest.raises(ValueError, match="counts"):
        RiskHistogram((0.5,), (10, 0))


def take(monitor: DriftMonitor, risks: Iterable[float], questions: int = 1) -> None:
    """So many questions on each image."""
    for number, risk in enumerate(risks):
        monitor.update(risk, f"image {number // questions}")


def test_the_drift_ratio_is_pearsons_over_its_mean_of_the_last_answers() -> None:
    reference = RiskHistogram((0.1, 0.4), (700, 200, 100))
    monitor = DriftMonitor(reference, window=100)
    take(monitor, [0.9] * 99)
    assert monitor.ratio() == Missing("window_not_full")
    take(monitor, [0.9] * 30 + [0.1] * 50 + [0.4] * 30 + [0.41] * 20)
    pearson = (50 - 70) ** 2 / 70 + (30 - 20) ** 2 / 20 + (20 - 10) ** 2 / 10
    spread = (50 / 0.7 + 30 / 0.2 + 20 / 0.1) / 100 - 1
    assert monitor.ratio() == pytest.approx(pearson / (spread + 2 * 100 / 1000))


def test_questions_on_one_image_weigh_as_much_as_they_differ() -> None:
    """Three alike are one answer; then the ratio is that of the images alone."""
    risks = np.random.default_rng(0).random(200)
    reference = RiskHistogram((0.1, 0.4), (140, 40, 20), images=200)
    one, three = DriftMonitor(reference, 200), DriftMonitor(reference, 600)
    take(one, risks)
    take(three, np.repeat(risks, 3), questions=3)
    assert three.ratio() == pytest.approx(one.ratio())


SCENES = {
    "one frame": (1, 1),
    "ten questions in turn on one frame": (10, 1),
    "two frames in turn": (1, 2),
    "four questions on each of five frames": (4, 5),
    "ninety-nine frames": (1, 99),
}
"""Questions on each frame, and frames, in turn."""


@pytest.mark.parametrize("name", SCENES)
def test_a_still_scene_says_nothing(name: str) -> None:
    """A thousand answers whose risks are as in the reference, again and again."""
    questions, frames = SCENES[name]
    risks = np.random.default_rng(0).random(questions * frames)
    monitor = DriftMonitor(RiskHistogram((0.7, 0.9), (700, 200, 100)))
    for number in range(1000):
        frame = number % len(risks) // questions
        monitor.update(float(risks[number % len(risks)]), f"frame {frame}")
    assert monitor.ratio() == Missing("too_few_images")


@pytest.mark.parametrize("risk", [0.1, 0.8, 0.95])
def test_a_still_scene_among_others_is_one_image_of_many(risk: float) -> None:
    """Half of the answers are on one frame."""
    monitor = DriftMonitor(RiskHistogram((0.7, 0.9), (700, 200, 100)))
    rng = np.random.default_rng(0)
    for number in range(500):
        monitor.update(float(rng.random()), f"image {number}")
        monitor.update(risk, "the frame")
    ratio = monitor.ratio()
    assert not isinstance(ratio, Missing)
    assert ratio < DRIFT_LIMIT


def test_the_same_image_later_is_the_same_image() -> None:
    reference = RiskHistogram((0.1, 0.4), (700, 200, 100))
    turns, rows = DriftMonitor(reference, 300), DriftMonitor(reference, 300)
    risks = np.random.default_rng(1).random(300)
    for number in range(600):  # the first 300 leave the window again
        turns.update(float(risks[number % 300]), str(number % 100))
    for number in range(300):
        rows.update(float(risks[number % 3 * 100 + number // 3]), str(number // 3))
    assert turns.ratio() == pytest.approx(rows.ratio())


def test_a_risk_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="risk"):
        DriftMonitor(RiskHistogram((0.1,), (5, 5))).update(math.nan, "image")
