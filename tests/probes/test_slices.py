"""Certificates per slice: what is tested, at which delta, and whom they serve."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.bundle import Bundle
from probes.certify import certify
from probes.guarantee import Certificate, answers_needed
from probes.slices import Slicing, slice_groups
from probes.types import Missing

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def test_answers_needed_are_those_of_the_method() -> None:
    assert answers_needed(0.05, 0.05) == 59
    assert answers_needed(0.01, 0.05) == 299


def test_small_slices_are_tested_as_one_group() -> None:
    """Three slices: each at most at 0.05 / 4, so 42 answers prove 10 %; 84 images are enough."""
    assert answers_needed(0.1, 0.05 / 4) == 42
    names = np.repeat(["a", "b", "c"], [84, 83, 5])
    images = np.array([str(index) for index in range(names.size)])
    assert slice_groups(names, images, 1.0, 0.1, 0.05) == [("a",), ("b", "c")]
    assert slice_groups(names, images, 2.0, 0.1, 0.05) == [("a",), ("b",), ("c",)]
    assert slice_groups(names, np.repeat("one", names.size), 1.0, 0.1, 0.05) == [("a", "b", "c")]


@pytest.fixture(scope="module")
def sliced(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("sliced") / "bundle"
    return certify(
        run.store, run.trained, out, created=CREATED, alpha=0.2, slicing=Slicing("kind", "task")
    )


def test_every_group_has_an_equal_share_of_delta(sliced: Bundle) -> None:
    serving = [one for one in sliced.attempts if one.alpha == 0.2]
    groups = {one.slices for one in serving}
    assert None in groups
    assert {name for group in groups if group for name in group} == {"presence", "defect"}
    for one in serving:
        if isinstance(one.outcome, Certificate):
            first = one.self_consistency == sliced.policy.self_consistency
            share = 0.8 if first else one.outcome.level * len(groups) / 0.05
            assert one.outcome.delta == 0.05
            assert one.outcome.level == pytest.approx(0.05 * share / len(groups))
            assert share in (0.8, pytest.approx(0.1), pytest.approx(0.05))
            assert one.outcome.slices == one.slices


def test_a_request_is_served_by_the_certificate_of_its_slice(sliced: Bundle) -> None:
    def given(**metadata: str) -> Certificate | Missing:
        return sliced.certificate_for(
            sliced.policy, "never", 0, shortened=False, now=CREATED,
            slice=sliced.slice_of(metadata),
        )  # fmt: skip

    assert given() == sliced.certificates["never"]
    found = given(task="defect")
    assert isinstance(found, Certificate)
    assert found.slices is not None
    assert "defect" in found.slices
    assert given(task="never seen") == Missing("no_certificate")
    assert given(camera="defect") == sliced.certificates["never"]


def test_slices_survive_the_folder_and_a_bundle_without_them_names_none(
    run: Any, sliced: Bundle, tmp_path: Path
) -> None:
    again = sliced.save(tmp_path / "again")
    assert again.attempts == sliced.attempts
    assert again.slicing == Slicing("kind", "task")
    assert run.certified.slicing is None
    assert run.certified.slice_of({"task": "defect"}) is None
    assert not run.certified.slice_certificates
