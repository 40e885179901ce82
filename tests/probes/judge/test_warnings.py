"""What must not be believed is said: shuffled labels, questions alone, broken labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probes.data.base_accuracy import base_accuracy
from probes.data.store import Store, Writer
from probes.fit.train import train
from probes.guarantee.certify import certify
from probes.judge.evaluate import evaluate
from probes.judge.warnings import find_warnings
from probes.report.report import warnings
from probes.types import Interval, Missing
from service.cli import app

SHARES = {"fit": 0.15, "select": 0.27, "calibrate": 0.4, "test": 0.18}


def judged(store: Store, out: Path, blank: Store | None = None) -> tuple[Any, dict[str, Any]]:
    bundle = train(store, out / "bundle", shares=SHARES, blank=blank)  # type: ignore[arg-type]
    created = datetime(2026, 1, 1, tzinfo=UTC)
    certified = certify(store, bundle, out / "certified", created=created)
    return certified, evaluate(store, certified, out / "evaluation", blank=blank, resamples=200)


def names(evaluation: dict[str, Any]) -> list[str]:
    return [one["name"] for one in evaluation["flags"]]


@pytest.fixture
def chance(run: Any) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(11)

    def draw(logit: np.ndarray) -> np.ndarray:
        return np.asarray(rng.random(logit.size) < 1 / (1 + np.exp(-logit)))

    return draw


def test_shuffled_labels_get_no_certificate(run: Any, relabelled: Any, tmp_path: Path) -> None:
    shuffled = np.random.default_rng(0).permutation(run.store.wrong)
    store = relabelled(run.store, tmp_path / "store", shuffled)
    certified, evaluation = judged(store, tmp_path)
    assert len(certified.attempts) == 3
    assert not certified.certificates
    assert "no_certificate" in names(evaluation)
    assert "probe_not_above_shuffled_labels" in names(evaluation)
    assert run.certified.certificates  # which the same answers do get with their own labels


def test_a_probe_of_the_question_alone_is_flagged(
    run: Any, relabelled: Any, chance: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    numbers = np.array([int(record.question.split()[2]) for record in run.store.records])
    logit = np.array([-3.0, -0.5, 2.0])[numbers]
    store = relabelled(run.store, tmp_path / "store", chance(logit), logit)
    blank = relabelled(run.store, tmp_path / "blank", store.wrong, logit, image="blank")
    _, evaluation = judged(store, tmp_path, blank)
    assert evaluation["signals"]["hidden_state_probe"]["auroc"]["lower"] > 0.7  # it looks good
    assert {"probe_not_above_question_words", "probe_not_above_blank_image"} <= set(
        names(evaluation)
    )
    assert any("the words of the question alone" in text for text in warnings(evaluation))


def test_words_of_question_and_answer_that_tell_as_much_as_the_risk_are_flagged(
    run: Any, relabelled: Any, chance: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    """Which answer goes with which question decides; neither tells anything alone."""
    rng = np.random.default_rng(7)
    numbers = np.array([int(record.question.split()[2]) for record in run.store.records])
    said = rng.random(numbers.size) < 0.5
    logit = np.where(said == (numbers == 1), 2.0, -2.0)
    answers = ["yes" if one else "no" for one in said]
    store = relabelled(run.store, tmp_path / "store", chance(logit), logit, answers)
    _, evaluation = judged(store, tmp_path)
    assert evaluation["signals"]["risk"]["auroc"]["lower"] > 0.7  # it looks good
    for name in ("question_words", "answer_words"):
        assert evaluation["controls"][name]["auroc"]["upper"] < 0.7
    assert "risk_not_above_question_and_answer_words" in names(evaluation)
    assert any("question and answer together" in text for text in warnings(evaluation))


def test_a_kind_whose_accepted_answers_err_more_than_alpha_is_flagged() -> None:
    interval, missing = Interval(0.3, 0.2, 0.4), Missing("no_answers")
    row = {"by": "kind", "name": "count", "self_consistency": "never", "error": interval}
    evaluation = {
        "accuracy": {}, "training": {}, "controls": {}, "serving_alpha": 0.1,
        "certificates": [{"alpha": 0.1, "certificate": {}}],
        "accepted": [row, {**row, "name": "open", "error": missing}],
    }  # fmt: skip
    (warning,) = find_warnings(evaluation)
    assert warning["name"] == "accepted_above_alpha"
    assert "of kind count 30.0% [20.0%, 40.0%] are wrong" in warning["text"]
    assert find_warnings({**evaluation, "serving_alpha": 0.25}) == [
        {"name": "no_certificate", "text": "no certificate: nothing is accepted automatically"}
    ]


def test_a_bundle_trained_on_blank_images_says_so(
    run: Any, relabelled: Any, chance: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    logit = np.random.default_rng(2).normal(-0.5, 2, size=len(run.store.records))
    store = relabelled(run.store, tmp_path / "store", chance(logit), logit, image="blank")
    _, evaluation = judged(store, tmp_path)
    assert "trained_on_blank_images" in names(evaluation)
    assert not any(name.startswith("probe_not_above") for name in names(evaluation))


def test_broken_labels_warn_first(run: Any, tmp_path: Path) -> None:
    """Whole-string equality: "yes" is right three times of four, but is written otherwise."""
    records = [
        replace(record, wrong=record.wrong or index % 2 == 0)
        for index, record in enumerate(run.store.records)
    ]
    base = base_accuracy(records)
    assert [one.kind for one in base] == ["all", "defect", "presence"]
    assert base[0].below_majority
    assert not base_accuracy(run.store.records)[0].below_majority
    broken = replace(run.store, records=tuple(records))
    _, evaluation = judged(broken, tmp_path)
    assert names(evaluation)[0] == "accuracy_below_majority"
    assert warnings(evaluation)[0].startswith("Warning: on the test split, accuracy of kind all")


def test_train_says_the_base_accuracy_before_anything_else(run: Any, tmp_path: Path) -> None:
    wrong = np.ones(len(run.store.records), dtype=bool)
    writer = Writer(tmp_path / "store", run.store.setup)
    records = [replace(record, wrong=True) for record in run.store.records]
    hidden = {place: run.store.hidden(place) for place in run.store.setup.readouts}
    writer.append(records, hidden, run.store.arrays, {})
    writer.finish()
    arguments = ["train", str(tmp_path / "store"), "--out", str(tmp_path / "bundle")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert said[0].startswith(f"accuracy 0.0% of {wrong.size} answers")
    assert said[1].startswith(
        "warning: accuracy of kind all (0.0%) is below always answering 'yes'"
    )
    assert any("check the labels" in line for line in said[2:])  # of the fit that cannot be


def test_a_clean_run_raises_no_flag_on_what_the_probe_reads(run: Any, tmp_path: Path) -> None:
    evaluation = evaluate(run.store, run.certified, tmp_path / "out", resamples=200)
    assert names(evaluation) == []
