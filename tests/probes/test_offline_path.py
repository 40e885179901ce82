"""collect -> train -> certify -> evaluate, end to end on an engine whose truth is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from probes.data.splits import splits_of
from probes.errors import StoreError
from probes.judge.evaluate import evaluate


@pytest.fixture(scope="module")
def evaluation(run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    return evaluate(run.store, run.certified, out, domains={"again": run.store}, resamples=100)


def test_probe_finds_the_layer_that_holds_the_truth(run: Any) -> None:
    assert run.trained.probe.layer == 2
    assert abs(run.trained.probe.weights).argmax() == 1


def test_probe_beats_token_confidence_and_attention_says_nothing(
    evaluation: dict[str, Any],
) -> None:
    signals = evaluation["signals"]
    assert signals["hidden_state_probe"]["auroc_above_token_confidence"]["lower"] > 0
    assert signals["risk"]["auroc_above_token_confidence"]["lower"] > 0
    for name in ("attention_spatial_entropy", "attention_top30_mass", "attention_clusters"):
        assert signals[name]["auroc"]["lower"] < 0.5 < signals[name]["auroc"]["upper"]


def test_shuffled_labels_predict_nothing(evaluation: dict[str, Any]) -> None:
    shuffled = evaluation["controls"]["shuffled_labels"]["auroc"]
    assert shuffled["upper"] < evaluation["signals"]["hidden_state_probe"]["auroc"]["lower"]


def test_certified_modes_keep_their_promise_on_the_test_split(
    run: Any, evaluation: dict[str, Any]
) -> None:
    assert {"never", "auto"} <= set(run.certified.certificates)
    told = [(row["alpha"], row["self_consistency"]) for row in evaluation["certificates"]]
    assert told == [(0.1, "never"), (0.1, "auto"), (0.1, "always")]
    for row in evaluation["certificates"]:
        if "certificate" in row:
            assert row["test"]["accepted"] > 20
            # One test split is one draw: allow three standard errors above the promise.
            alpha = row["alpha"]
            slack = 3 * (alpha * (1 - alpha) / row["test"]["accepted"]) ** 0.5
            assert row["test"]["wrong"] / row["test"]["accepted"] <= alpha + slack


def test_certificates_rest_on_the_groups_of_the_calibrate_split(run: Any) -> None:
    splits = splits_of(run.store, run.certified)
    groups = run.store.groups[splits == "calibrate"]
    for certificate in run.certified.certificates.values():
        assert certificate.groups == np.unique(groups).size
        assert 0 < certificate.n <= groups.size
        assert certificate.bundle == run.certified.id == run.trained.id


def test_an_evaluation_is_plain_json_with_its_inputs(run: Any, evaluation: dict[str, Any]) -> None:
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    assert evaluation["fingerprints"]["store"] == run.store.fingerprint
    assert evaluation["bundle"] == run.certified.id


def test_accuracy_stands_beside_the_commonest_answer(evaluation: dict[str, Any]) -> None:
    """The engine always says yes, so its accuracy is the rate of yes: not below the majority."""
    for row in evaluation["accuracy"].values():
        assert row["majority_answer"] == "yes"
        assert row["accuracy"]["estimate"] == pytest.approx(row["majority_rate"])
        assert not row["below_majority"]


def test_another_store_is_reported_as_a_domain(run: Any, evaluation: dict[str, Any]) -> None:
    assert evaluation["domains"]["again"]["answers"] == len(run.store.records)
    assert 0.02 < evaluation["out_of_domain"]["share"]["estimate"] < 0.15


def test_a_folder_is_never_overwritten(run: Any) -> None:
    with pytest.raises(StoreError, match="exists already"):
        evaluate(run.store, run.certified, run.root / "store", resamples=2)
