import numpy as np
import pytest

from probes.errors import DataError
from probes.stats.bootstrap import cluster_bootstrap, paired_difference
from probes.stats.metrics import auroc, brier
from probes.types import Interval, Missing

RNG = np.random.default_rng(0)
WRONG = RNG.random(600) < 0.3
RISK = 1 / (1 + np.exp(-(RNG.normal(size=600) + WRONG)))
GROUPS = np.repeat(np.arange(200), 3)


def one(score: np.ndarray, wrong: np.ndarray, groups: np.ndarray) -> Interval | Missing:
    return cluster_bootstrap({"auroc": auroc}, {"risk": score}, wrong, groups, 300)["risk"]["auroc"]


def width(interval: Interval | Missing) -> float:
    assert isinstance(interval, Interval)
    return interval.upper - interval.lower


def test_an_interval_holds_its_estimate_and_is_repeatable() -> None:
    scores = {"risk": RISK, "noise": RNG.random(600)}
    metrics = {"auroc": auroc, "brier": brier}
    first = cluster_bootstrap(metrics, scores, WRONG, GROUPS, resamples=200, seed=1)
    assert first == cluster_bootstrap(metrics, scores, WRONG, GROUPS, resamples=200, seed=1)
    assert first != cluster_bootstrap(metrics, scores, WRONG, GROUPS, resamples=200, seed=2)
    found = first["risk"]["auroc"]
    assert isinstance(found, Interval)
    assert found.lower < found.estimate < found.upper
    assert found.estimate == pytest.approx(auroc(RISK, WRONG))


def test_copies_of_answers_add_no_certainty_within_an_image() -> None:
    images = np.arange(600)
    tripled = [np.repeat(values, 3) for values in (RISK, WRONG, images)]
    honest = width(one(RISK, WRONG, images))
    assert width(one(*tripled)) == pytest.approx(honest)
    naive = width(one(tripled[0], tripled[1], np.arange(1800)))
    assert naive < 0.7 * honest


def test_names_of_images_may_be_anything() -> None:
    names = np.array([f"sha-{group}" for group in GROUPS])
    assert width(one(RISK, WRONG, names)) == pytest.approx(width(one(RISK, WRONG, GROUPS)), rel=0.3)


def test_a_score_against_itself_differs_by_nothing() -> None:
    same = paired_difference(auroc, RISK, RISK * 0.5, WRONG, GROUPS, resamples=100)
    assert same == Interval(0.0, 0.0, 0.0)


def test_pairing_sees_what_separate_intervals_hide() -> None:
    worse = RISK + 0.25 * np.random.default_rng(5).normal(size=600)
    paired = paired_difference(auroc, RISK, worse, WRONG, GROUPS, resamples=300)
    assert isinstance(paired, Interval)
    assert paired.lower > 0
    apart = np.hypot(width(one(RISK, WRONG, GROUPS)), width(one(worse, WRONG, GROUPS)))
    assert width(paired) < 0.8 * apart


def test_missing_stays_missing() -> None:
    never = np.zeros(600, dtype=bool)
    assert one(RISK, never, GROUPS) == Missing("one_class")
    assert paired_difference(auroc, RISK, RISK, never, GROUPS, 20) == Missing("one_class")
    found = cluster_bootstrap({"brier": brier}, {"logit": RISK * 9}, WRONG, GROUPS, 20)
    assert found["logit"]["brier"] == Missing("not_a_probability")


def test_too_few_resamples() -> None:
    def whole_only(risk: np.ndarray, wrong: np.ndarray, weight: np.ndarray | None = None, /):
        return 1.0 if weight is None else Missing("one_class")

    found = cluster_bootstrap({"m": whole_only}, {"risk": RISK}, WRONG, GROUPS, 20)
    assert found["risk"]["m"] == Missing("too_few_resamples")


def test_resamples_without_a_value_are_left_out() -> None:
    rare = np.zeros(600, dtype=bool)
    rare[0] = True  # its image is in 63 % of the resamples
    assert isinstance(one(RISK, rare, GROUPS), Interval)


@pytest.mark.parametrize(
    ("score", "groups", "message"),
    [
        (RISK[:5], GROUPS, "risk: shape"),
        (np.where(WRONG, np.nan, RISK), GROUPS, "risk: not finite"),
        (RISK, GROUPS[:5], "groups: shape"),
    ],
)
def test_scores_that_do_not_fit(score: np.ndarray, groups: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        one(score, WRONG, groups)
