from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from probes.errors import BundleError, DataError
from probes.guarantee import (
    Certificate,
    NoCertificate,
    TestedThreshold,
    certify,
    fixed_sequence,
    one_per_image,
    threshold_ladder,
)

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def certified(
    risk: np.ndarray, wrong: np.ndarray, thresholds: np.ndarray, **changed: Any
) -> Certificate | NoCertificate:
    settings: dict[str, Any] = {
        "groups": np.arange(len(risk)),
        "alpha": 0.05,
        "delta": 0.05,
        "self_consistency": "auto",
        "samples": 10,
        "bundle": "b-1",
        "model": "rev",
        "data": "fingerprint",
        "created": CREATED,
        "valid_days": 30,
    }
    groups = changed.pop("groups", settings.pop("groups"))
    return certify(risk, wrong, groups, thresholds, **{**settings, **changed})


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 59), (0.01, 299)])
def test_without_an_error_59_or_299_answers_are_needed(alpha: float, needed: int) -> None:
    def passes(count: int) -> bool:
        right = np.zeros(count, dtype=bool)
        return fixed_sequence(np.zeros(count), right, np.zeros(1), alpha, 0.05) is not None

    assert passes(needed)
    assert not passes(needed - 1)


def test_the_last_before_the_first_failure() -> None:
    # 100 right, then 20 wrong, then 2,000 right: the last threshold would pass but is not reached.
    risk = np.repeat([0.1, 0.2, 0.3], [100, 20, 2000])
    wrong = risk == 0.2
    found = fixed_sequence(risk, wrong, np.array([0.1, 0.15, 0.2, 0.3]), 0.05, 0.05)
    assert found == TestedThreshold(0.15, accepted=100, wrong=0, p_value=pytest.approx(0.95**100))
    loosest = fixed_sequence(risk, wrong, np.array([0.3]), 0.05, 0.05)
    assert loosest is not None
    assert (loosest.accepted, loosest.wrong) == (2120, 20)


def test_a_first_threshold_that_fails_ends_it() -> None:
    assert fixed_sequence(np.ones(500), np.zeros(500, bool), np.array([0.5, 1]), 0.05, 0.05) is None
    assert fixed_sequence(np.ones(500), np.zeros(500, bool), np.empty(0), 0.05, 0.05) is None


def test_infinite_risk_is_never_accepted() -> None:
    risk = np.repeat([0.1, np.inf], [100, 50])
    found = fixed_sequence(risk, np.isinf(risk), np.array([0.1]), 0.05, 0.05)
    assert found is not None
    assert (found.accepted, found.wrong) == (100, 0)


@pytest.mark.parametrize(
    ("thresholds", "alpha", "delta", "message"),
    [
        ([0.2, 0.1], 0.05, 0.05, "strict to loose"),
        ([0.1], 0.0, 0.05, "alpha, delta"),
        ([0.1], 0.05, 1.0, "alpha, delta"),
    ],
)
def test_bad_arguments(thresholds: list[float], alpha: float, delta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_sequence(np.zeros(9), np.zeros(9, bool), np.array(thresholds), alpha, delta)


def test_the_ladder_starts_where_the_promise_shows_best() -> None:
    risk = np.arange(1, 1001) / 1000
    wrong = np.zeros(1000, dtype=bool)
    wrong[400::2] = True
    ladder = threshold_ladder(risk, wrong, alpha=0.1)
    assert ladder[0] == pytest.approx(0.4)
    assert ladder[-1] == 1.0
    assert (np.diff(ladder) > 0).all()


def test_the_ladder_leaves_out_what_is_never_accepted() -> None:
    risk = np.repeat([0.1, 0.2, np.inf], [100, 100, 100])
    ladder = threshold_ladder(risk, np.zeros(300, dtype=bool), alpha=0.1)
    np.testing.assert_array_equal(ladder, [0.2])
    assert threshold_ladder(np.full(5, np.inf), np.zeros(5, bool), 0.1).shape == (0,)


def test_one_random_answer_per_image() -> None:
    groups = np.repeat(np.arange(500), 4)
    chosen = one_per_image(groups, seed=0)
    np.testing.assert_array_equal(groups[chosen], np.arange(500))
    np.testing.assert_array_equal(chosen, one_per_image(groups, seed=0))
    places = np.bincount(chosen % 4, minlength=4) / 500
    np.testing.assert_allclose(places, 0.25, atol=0.06)


def test_a_certificate_says_what_was_tested() -> None:
    risk = np.repeat([0.1, 0.9], [200, 100])
    found = certified(risk, risk > 0.5, np.array([0.1, 0.9]))
    assert isinstance(found, Certificate)
    assert (found.n, found.k, found.threshold) == (200, 0, 0.1)
    assert (found.self_consistency, found.samples) == ("auto", 10)
    assert found.id.startswith("c-")
    assert not found.expired(CREATED + timedelta(days=29))
    assert found.expired(CREATED + timedelta(days=30))
    assert found.id != certified(risk, risk > 0.5, np.array([0.1]), bundle="b-2").id


def test_an_image_counts_once() -> None:
    found = certified(np.zeros(400), np.zeros(400, bool), np.zeros(1), groups=np.arange(400) // 4)
    assert isinstance(found, Certificate)
    assert found.n == 100


def test_why_there_is_none() -> None:
    few = certified(np.zeros(58), np.zeros(58, dtype=bool), np.zeros(1))
    assert few == NoCertificate("too_few_answers", 58)
    bad = certified(np.zeros(500), np.arange(500) < 40, np.zeros(1))
    assert bad == NoCertificate("error_rate_too_high", 500)
    closed = certified(np.full(500, np.inf), np.zeros(500, dtype=bool), np.empty(0))
    assert closed == NoCertificate("too_few_answers", 0)


def test_a_certificate_survives_a_file_and_no_forgery() -> None:
    found = certified(np.zeros(100), np.zeros(100, dtype=bool), np.zeros(1))
    assert isinstance(found, Certificate)
    fields = found.to_dict()
    assert Certificate.from_dict(fields) == found
    for changed, name in [
        ({**fields, "alpha": 0.01}, "id"),
        ({**fields, "extra": 1}, "extra"),
        ({key: value for key, value in fields.items() if key != "n"}, "n"),
    ]:
        with pytest.raises(BundleError) as caught:
            Certificate.from_dict(changed)
        assert caught.value.field == f"certificate.{name}"


def test_certify_refuses() -> None:
    with pytest.raises(DataError, match="calibrate: no answers"):
        certified(np.empty(0), np.empty(0, dtype=bool), np.zeros(1))
    with pytest.raises(ValueError, match="created"):
        certified(np.zeros(9), np.zeros(9, bool), np.zeros(1), created=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="self_consistency"):
        certified(np.zeros(9), np.zeros(9, bool), np.zeros(1), self_consistency="maybe")
