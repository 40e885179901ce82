"""A bundle whose hashes are right and whose content is not is refused by the field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.check import check_bundle
from probes.model.folder import read_bundle, write_bundle
from probes.model.policy import Policy
from probes.model.typed import fits
from probes.signals.question_kind import KindModel
from probes.types import FloatArray


@pytest.fixture(scope="module")
def bundle(run: Any) -> Bundle:
    return read_bundle(run.root / "certified")


def part(bundle: Bundle, name: str, **changes: Any) -> Bundle:
    return replace(bundle, **{name: replace(getattr(bundle, name), **changes)})


BAD = {
    "probe.weights": lambda b: part(b, "probe", weights=b.probe.weights[:-1]),
    "probe.mean": lambda b: part(b, "probe", mean=b.probe.mean[None]),
    "probe.scale": lambda b: part(b, "probe", scale=np.zeros_like(b.probe.scale)),
    "probe.components": lambda b: part(b, "probe", components=b.probe.components[:, 1:]),
    "probe.layer": lambda b: part(b, "probe", layer=99),
    "domain.precision": lambda b: part(b, "domain", precision=b.domain.precision[1:]),
    "domain.latent": lambda b: part(b, "domain", latent=b.domain.latent + 1),
    "attention_layers": lambda b: replace(b, attention_layers=(0,)),
    "stage_one.features": lambda b: part(b, "stage_one", features=("charm",)),
    "stage_two.features": lambda b: part(b, "stage_two", features=("kind@presence",)),
    "kinds.kinds": lambda b: replace(b, kinds=KindModel((), ("a",), np.zeros((1, 0)), np.zeros(0))),
    "kinds.weights": lambda b: replace(
        b, kinds=KindModel(("a", "b"), ("x",), np.zeros((2, 2)), np.zeros(2))
    ),
    "kinds.intercept": lambda b: replace(
        b, kinds=KindModel(("a", "b"), ("x",), np.zeros((1, 2)), np.zeros(3))
    ),
    "stage_one.weights": lambda b: part(b, "stage_one", weights=np.ones(9)),
    "policy.required": lambda b: replace(b, policy=Policy(required=("charm",))),
    "training.risk_reference": lambda b: replace(b, training={"risk_reference": {"edges": []}}),
}


def test_a_trained_bundle_fits(bundle: Bundle) -> None:
    check_bundle(bundle)


@pytest.mark.parametrize("field", BAD)
def test_a_part_that_does_not_fit_is_named(bundle: Bundle, field: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_bundle(BAD[field](bundle))
    assert caught.value.field == field


@pytest.mark.parametrize("field", BAD)
def test_it_is_found_when_the_folder_is_read(bundle: Bundle, field: str, tmp_path: Path) -> None:
    wrong = replace(BAD[field](bundle), attempts=(), alpha=None, golden=())
    with pytest.raises(BundleError, match=field.replace(".", r"\.")):
        write_bundle(wrong, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("value", "hint", "good"),
    [
        (1, float, True),
        (True, float, False),
        (float("nan"), float, False),
        (1.0, int, False),
        ("x", Literal["x", "y"], True),
        ("z", Literal["x", "y"], False),
        (None, float | None, True),
        ("1", float | None, False),
        (("a", "b"), tuple[str, ...], True),
        (("a", 1), tuple[str, ...], False),
        (["a"], tuple[str, ...], False),
        (np.zeros(2), FloatArray, True),
        ([0.0], FloatArray, False),
    ],
)
def test_a_value_fits_its_type_or_not(value: object, hint: object, good: bool) -> None:
    assert fits(value, hint) is good
