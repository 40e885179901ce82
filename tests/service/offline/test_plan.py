"""`vlm-gate plan`: the arithmetic, by hand, and its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.offline.plan import Demand, PlanError, accepted_share_of, plan

EMBEDDED = Path(__file__).parents[3] / "docs" / "results" / "llava"
SITE = Demand(
    questions_per_second=100,
    questions_per_day=1_000_000,
    answers_per_second=60,
    accepted_share=0.5,
)


def test_replicas_for_the_peak_and_reviewers_for_the_day() -> None:
    found = plan(SITE)
    assert found.answers_per_second_per_replica == pytest.approx(42)
    assert (found.replicas, found.gpus) == (3, 3)
    assert found.reviews_per_day == pytest.approx(1_000_000 * (0.5 + 0.5 * 0.02))
    assert found.reviewers == 473  # 510,000 reviews at 1,080 a day
    assert found.questions_per_day_per_reviewer == pytest.approx(1080 / 0.51)


def test_samples_cost_what_they_take() -> None:
    sampled = plan(replace(SITE, sampled_share=0.5, sampling_cost_ratio=2.3, gpus_per_replica=4))
    assert sampled.answers_per_second_per_replica == pytest.approx(42 / 1.65)
    assert (sampled.replicas, sampled.gpus) == (4, 16)


def test_exactly_full_needs_no_more() -> None:
    demand = replace(SITE, questions_per_second=84.0, utilisation=0.7)
    assert plan(demand).replicas == 2
    assert plan(replace(demand, questions_per_second=84.1)).replicas == 3


def test_nobody_reviews_where_all_is_accepted_and_nothing_audited() -> None:
    found = plan(replace(SITE, accepted_share=1.0, audit_share=0.0))
    assert (found.reviews_per_day, found.reviewers) == (0, 0)
    assert found.questions_per_day_per_reviewer == float("inf")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"questions_per_second": 0}, "questions-per-second: must be above 0"),
        ({"accepted_share": 1.1}, "accepted-share: must be from 0 to 1"),
        ({"utilisation": 1.0}, "utilisation: must be between 0 and 1"),
        ({"sampling_cost_ratio": 0.5}, "sampling-cost-ratio: must be 1 or more"),
        ({"answers_per_second": float("inf")}, "answers-per-second: must be finite"),
        ({"review_seconds": float("nan")}, "review-seconds: must be"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, told) -> None:
    with pytest.raises(PlanError, match=told):
        replace(SITE, **change)


def test_the_accepted_share_comes_from_a_committed_evaluation(tmp_path: Path) -> None:
    rows = json.loads((EMBEDDED / "evaluation.json").read_text())
    served = [
        row["test"]["coverage"]
        for row in rows["certificates"]
        if row["alpha"] == rows["serving_alpha"] and row["self_consistency"] == "never"
    ]
    assert accepted_share_of(EMBEDDED, "never") == served[0]
    rows["certificates"] = []
    (tmp_path / "evaluation.json").write_text(json.dumps(rows))
    with pytest.raises(PlanError, match="no certificate serves"):
        accepted_share_of(tmp_path, "never")
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(PlanError, match="is not what vlm-gate evaluate wrote"):
        accepted_share_of(tmp_path, "never")


def test_the_command_asks_for_what_it_cannot_know() -> None:
    words = ["plan", "--questions-per-second", "100", "--answers-per-second", "60"]

    def run(*more: str):
        return CliRunner().invoke(app, [*words, *more])

    assert "replicas              3 (3 GPUs)" in run("--accepted-share", "0.5").stdout
    assert "accepted-share: give it" in run().stderr
    auto = ("--evaluation", str(EMBEDDED), "--self-consistency", "auto")
    assert "sampled-share: give it" in run(*auto).stderr
    assert "sampling-cost-ratio: give it" in run(*auto, "--sampled-share", "0.4").stderr
    told = run(*auto, "--sampled-share", "0.4", "--sampling-cost-ratio", "2.3")
    assert told.exit_code == 0, told.output
