from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from probes.errors import BundleError, DataError
from probes.guarantee.betting import Ladder
from probes.guarantee.learn_then_test import certify
from probes.model.certificate import ESTIMANDS, Certificate, NoCertificate

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
    most = changed.pop("most", 1)
    ladder = Ladder(thresholds, np.full(len(thresholds), 0.9 / most), most)
    return certify(risk, wrong, groups, ladder, **{**settings, **changed})


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


def test_what_it_says_of_its_test() -> None:
    found = certified(
        np.zeros(400), np.zeros(400, bool), np.zeros(1), groups=np.arange(400) // 4, most=4,
        level=0.04,
    )  # fmt: skip
    assert isinstance(found, Certificate)
    assert (found.n, found.groups, found.most_per_group) == (400, 100, 4)
    assert (found.test, found.unit, found.level, found.delta) == ("betting", "group", 0.04, 0.05)
    assert found.estimand in ESTIMANDS
    assert not found.old
    capped = certified(np.zeros(400), np.zeros(400, bool), np.zeros(1), groups=np.arange(400) // 4)
    assert isinstance(capped, Certificate)
    assert capped.n == 100


def test_why_there_is_none() -> None:
    few = certified(np.zeros(30), np.zeros(30, dtype=bool), np.zeros(1))
    assert isinstance(few, NoCertificate)
    assert (few.reason, few.answers, few.n, few.k) == ("too_few_answers", 30, 30, 0)
    assert few.more_groups is not None
    assert few.more_groups == pytest.approx(59 - 30, abs=1)
    assert "0 of 30 wrong at the first threshold, in 30 groups" in few.told()
    assert "about 29 more do" in few.told() or "about 30 more do" in few.told()
    bad = certified(np.zeros(500), np.arange(500) < 40, np.zeros(1), level=0.01)
    assert isinstance(bad, NoCertificate)
    assert (bad.reason, bad.k, bad.n, bad.more_groups) == ("error_rate_too_high", 40, 500, None)
    assert "tested at 0.01 of delta 0.05" in bad.told()
    closed = certified(np.full(500, np.inf), np.zeros(500, dtype=bool), np.empty(0))
    assert isinstance(closed, NoCertificate)
    assert (closed.reason, closed.answers, closed.n) == ("too_few_answers", 0, None)
    assert "no answer can be accepted" in closed.told()
    assert NoCertificate("too_few_answers", 58).told() == "too few answers"  # an old bundle's


OLD = {
    "alpha": 0.05, "delta": 0.05, "n": 200, "k": 3, "threshold": 0.1, "self_consistency": "never",
    "samples": 0, "bundle": "b-1", "model": "m", "data": "d", "created": CREATED.isoformat(),
    "expires": (CREATED + timedelta(days=9)).isoformat(),
}  # fmt: skip


def test_an_old_one_loads_and_says_what_it_is() -> None:
    old = Certificate.sealed(**OLD)
    assert old.old
    assert (old.test, old.unit, old.most_per_group) == ("binomial", "image", 1)
    assert old.estimand == "random_question_of_random_image"
    assert (old.groups, old.level) == (None, None)
    assert old.to_dict() == {**OLD, "id": old.id}  # written back as it was read
    assert Certificate.sealed(**{**OLD, "created": "2026-02-01T00:00:00+00:00"}).id != old.id
    with pytest.raises(BundleError, match=r"certificate\.id"):
        Certificate.from_dict({**old.to_dict(), "expires": CREATED.isoformat()})


def test_the_same_data_certified_again_give_the_same_id() -> None:
    """So that what voided a certificate also voids the next one on the same evidence."""
    risk, right = np.zeros(300), np.zeros(300, dtype=bool)
    found = certified(risk, right, np.zeros(1))
    assert isinstance(found, Certificate)
    later = certified(risk, right, np.zeros(1), created=CREATED + timedelta(days=9), level=0.03)
    stricter = certified(risk, right, np.zeros(2), valid_days=3)
    for other in (later, stricter):
        assert isinstance(other, Certificate)
        assert other.id == found.id
        assert other.expires != found.expires
    for changed in (
        {"bundle": "b-2"}, {"data": "other"}, {"alpha": 0.06}, {"delta": 0.06}, {"most": 2},
        {"self_consistency": "never"}, {"slices": ("a",)}, {"model": "m2"},
    ):  # fmt: skip
        other = certified(risk, right, np.zeros(1), **changed)
        assert isinstance(other, Certificate)
        assert other.id != found.id


@pytest.mark.parametrize(
    ("slices", "scope"), [(None, "all"), (("a",), "own"), (("a", "b"), "pooled")]
)
def test_whose_answers_it_is_about(slices: tuple[str, ...] | None, scope: str) -> None:
    found = certified(np.zeros(300), np.zeros(300, bool), np.zeros(1), slices=slices)
    assert isinstance(found, Certificate)
    assert found.scope == scope


def test_a_certificate_survives_a_file_and_no_forgery() -> None:
    found = certified(np.zeros(100), np.zeros(100, dtype=bool), np.zeros(1))
    assert isinstance(found, Certificate)
    fields = found.to_dict()
    assert Certificate.from_dict(fields) == found
    for changed, name in [
        ({**fields, "alpha": 0.01}, "id"),
        ({**fields, "estimand": "whatever"}, "estimand"),
        ({**fields, "threshold": 0.9}, "seal"),
        ({**fields, "expires": "2099-01-01T00:00:00+00:00"}, "seal"),
        ({**fields, "extra": 1}, "extra"),
        ({key: value for key, value in fields.items() if key != "n"}, "n"),
        ({key: value for key, value in fields.items() if key != "level"}, "level"),
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
