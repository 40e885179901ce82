"""Certificates per slice: what is tested, at which delta, and whom they serve."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.data.columns import StoreView
from probes.data.splits import splits_of
from probes.guarantee.certify import _observed, certify
from probes.guarantee.composed import policy_risk, stage_risks
from probes.guarantee.slices import answers_needed, slice_groups, slice_names
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate, NoCertificate
from probes.model.folder import write_bundle
from probes.model.policy import Policy
from probes.model.slicing import Slicing
from probes.types import Interval, Missing

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


def served(bundle: Bundle, policy: Policy | None = None, **metadata: str) -> Certificate | Missing:
    return bundle.certificate_for(
        policy or bundle.policy, "never", 0, shortened=False, now=CREATED,
        slice=bundle.slice_of(metadata),
    )  # fmt: skip


def test_a_request_is_served_by_the_certificate_of_its_slice(sliced: Bundle) -> None:
    assert served(sliced) == sliced.certificates["never"]
    found = served(sliced, task="presence")
    assert isinstance(found, Certificate)
    assert (found.slices, found.scope) == (("presence",), "own")
    assert served(sliced, task="never seen") == Missing("no_certificate")
    assert served(sliced, camera="presence") == sliced.certificates["never"]


def test_a_slice_whose_test_failed_escalates(sliced: Bundle) -> None:
    """Not even the certificate of all slices together serves it."""
    failed = CertificateAttempt(
        0.2, "never", NoCertificate("error_rate_too_high", 9), ("presence",)
    )
    others = tuple(
        one for one in sliced.attempts
        if (one.self_consistency, one.slices) != ("never", ("presence",))
    )  # fmt: skip
    bundle = replace(sliced, attempts=(*others, failed))
    assert served(bundle) == sliced.certificates["never"]
    assert served(sliced, task="presence") == sliced.slice_certificates["never", "presence"]
    assert served(bundle, task="presence") == Missing("no_certificate")


def test_small_slices_share_a_certificate_that_says_so(sliced: Bundle) -> None:
    """Scope on the decision, and what calibration saw of each; or none where a policy asks."""
    own = served(sliced, task="presence")
    assert isinstance(own, Certificate)
    plain = {key: value for key, value in own.to_dict().items() if key not in ("id", "seal")}
    both = Certificate.sealed(**{**plain, "slices": ["defect", "presence"]})
    seen = {"defect": Interval(0.1, 0.0, 0.4), "presence": Interval(0.02, 0.0, 0.1)}
    bundle = replace(sliced, attempts=(CertificateAttempt(0.2, "never", both, both.slices, seen),))
    found = served(bundle, task="defect")
    assert found == both
    assert isinstance(found, Certificate)
    assert found.scope == "pooled"
    assert bundle.observed_slices("never") == seen
    strict = replace(bundle.policy, small_slices="own_or_escalate")
    assert served(bundle, strict, task="defect") == Missing("no_certificate")
    assert served(sliced, strict, task="presence") == own


def test_what_calibration_saw_of_each_small_slice(run: Any) -> None:
    """One observed error per slice, within its bounds."""
    splits = splits_of(run.store, run.trained)
    risk = policy_risk(stage_risks(StoreView(run.store, run.trained)), run.trained, "never")
    names = slice_names(run.store.records, Slicing("kind", "task"))
    made = run.certified.certificates["never"].to_dict()
    plain = {key: value for key, value in made.items() if key not in ("id", "seal")}
    shared = Certificate.sealed(**{**plain, "slices": ["defect", "presence"]})
    seen = _observed(run.store, risk, names, splits == "select", splits == "calibrate", shared)
    assert set(seen) == {"defect", "presence"}
    for name, one in seen.items():
        kept = (splits == "calibrate") & (names == name) & (risk <= shared.threshold)
        assert one.estimate == pytest.approx(run.store.wrong[kept].mean())
        assert one.lower < one.estimate < one.upper


def test_slices_survive_the_folder_and_a_bundle_without_them_names_none(
    run: Any, sliced: Bundle, tmp_path: Path
) -> None:
    again = write_bundle(sliced, tmp_path / "again")
    assert again.attempts == sliced.attempts
    assert again.slicing == Slicing("kind", "task")
    assert run.certified.slicing is None
    assert run.certified.slice_of({"task": "defect"}) is None
    assert not run.certified.slice_certificates
