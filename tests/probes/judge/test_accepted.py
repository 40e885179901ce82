"""Accepted answers per kind and slice: what a report must not hide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.guarantee.composed import modes_of
from probes.judge.accepted import above_alpha, accepted_table
from probes.judge.evaluate import policy_risks
from probes.model.bundle import CertificateAttempt
from probes.model.slicing import Slicing
from probes.report.accepted_table import accepted_table as shown
from probes.types import Interval, Missing


@pytest.fixture(scope="module")
def test_rows(run: Any) -> np.ndarray:
    return np.asarray(splits_of(run.store, run.certified) == "test")


def test_kinds_add_up_to_all_answers(run: Any, test_rows: np.ndarray) -> None:
    table = accepted_table(
        run.store, run.certified, test_rows, policy_risks(StoreView(run.store, run.certified))
    )
    assert {row["self_consistency"] for row in table} == set(run.certified.certificates)
    for mode, certificate in run.certified.certificates.items():
        everything, *kinds = (row for row in table if row["self_consistency"] == mode)
        assert (everything["by"], everything["name"]) == (None, "all")
        assert [(row["by"], row["name"]) for row in kinds] == [
            ("kind", "defect"), ("kind", "presence"),
        ]  # fmt: skip  # there is one slice alone, which is no part
        for key in ("answers", "accepted", "wrong"):
            assert everything[key] == sum(row[key] for row in kinds)
        assert everything["answers"] == test_rows.sum()
        assert everything["accepted"] > 20
        assert everything["certificate"] == certificate.id
        for row in (everything, *kinds):
            assert row["error"].estimate == row["wrong"] / row["accepted"]
            assert row["coverage"].estimate == row["accepted"] / row["answers"]


def test_a_slice_is_judged_by_the_certificate_that_serves_it(
    run: Any, test_rows: np.ndarray
) -> None:
    """One with its own threshold, one without a certificate: that one accepts nothing."""
    certificate = run.certified.certificates["never"]
    own = replace(certificate, id="c-own", threshold=certificate.threshold / 2)
    attempts = (
        *run.certified.attempts, CertificateAttempt(0.10, "never", own, ("defect",)),
    )  # fmt: skip
    sliced = replace(run.certified, attempts=attempts, slicing=Slicing("kind", "kind"))
    risks = policy_risks(StoreView(run.store, sliced))
    table = accepted_table(run.store, sliced, test_rows, risks)
    rows = {row["name"]: row for row in table if row["self_consistency"] == "never"}
    defect = np.array([record.kind == "defect" for record in run.store.records]) & test_rows
    assert rows["all"]["certificate"] == certificate.id
    assert rows["defect"]["certificate"] == "c-own"
    assert rows["defect"]["accepted"] == (risks["never"][defect] <= own.threshold).sum() > 0
    assert rows["presence"]["certificate"] is None
    assert rows["presence"]["accepted"] == 0
    assert rows["presence"]["error"] == Missing("no_answers")


def test_without_a_certificate_there_is_nothing_to_tell(run: Any, test_rows: np.ndarray) -> None:
    assert modes_of(run.trained)
    assert (
        accepted_table(
            run.store, run.trained, test_rows, policy_risks(StoreView(run.store, run.trained))
        )
        == []
    )
    assert shown({"accepted": []}).rows == shown({}).rows == ()


def test_a_part_that_errs_more_than_alpha_is_found() -> None:
    rows: list[dict[str, Any]] = [
        {"name": name, "error": error}
        for name, error in (
            ("noise", Interval(0.11, 0.09, 0.14)),
            ("high", Interval(0.21, 0.11, 0.34)),
            ("none", Missing("no_answers")),
        )
    ]
    assert [row["name"] for row in above_alpha(rows, 0.10)] == ["high"]
