"""Quotas: a burst, then a rate, for each caller on its own."""

from __future__ import annotations

import pytest

from service.access.quota import MOST_CALLERS, Quota
from service.errors import QuotaSpent


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def granted(quota: Quota, caller: str, asked: int) -> int:
    """How many of so many requests pass."""
    passed = 0
    for _ in range(asked):
        try:
            quota.spend(caller)
        except QuotaSpent:
            continue
        passed += 1
    return passed


def test_a_burst_then_the_rate():
    clock = Clock()
    quota = Quota(2.0, 5, clock)
    assert granted(quota, "a", 9) == 5
    clock.now += 1.0
    assert granted(quota, "a", 9) == 2
    clock.now += 3600
    assert granted(quota, "a", 9) == 5


def test_one_caller_takes_nothing_from_another():
    quota = Quota(1.0, 3, Clock())
    assert granted(quota, "greedy", 100) == 3
    assert granted(quota, "modest", 3) == 3


def test_the_time_told_is_when_it_works_again():
    clock = Clock()
    quota = Quota(0.1, 1, clock)
    quota.spend("a")
    with pytest.raises(QuotaSpent) as refused:
        quota.spend("a")
    assert (refused.value.status, refused.value.retry_after) == (429, 10)
    clock.now += 9
    assert granted(quota, "a", 1) == 0
    clock.now += 1
    assert granted(quota, "a", 1) == 1


def test_none_is_set_by_zero():
    assert granted(Quota(0.0, 1, Clock()), "a", 1000) == 1000


def test_what_is_remembered_is_bounded():
    quota = Quota(1.0, 1, Clock())
    for number in range(MOST_CALLERS + 50):
        quota.spend(str(number))
    assert len(quota._buckets) == MOST_CALLERS
    assert granted(quota, str(MOST_CALLERS + 49), 1) == 0
