"""The pages in docs/results are what the commands make of the committed JSON; docs/results.md
quotes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from probes.judge.evaluate import EVALUATION
from probes.report.report import MARKDOWN, report
from probes.reproduce.reproduce import PAGE, REPRODUCTION, merge

RESULTS = Path(__file__).parents[2] / "docs" / "results"
GLANCE = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
MODELS = ("llava", "paligemma", "qwen2vl")
JUDGED = sorted(path.parent for path in RESULTS.glob(f"*/{EVALUATION}"))
REPRODUCED = sorted(RESULTS.glob(f"*/{REPRODUCTION}"))


def test_there_are_results() -> None:
    assert JUDGED


@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: folder.name)
def test_page_is_the_report_of_the_committed_evaluation(folder: Path, tmp_path: Path) -> None:
    again = report(folder, tmp_path / "again") / MARKDOWN
    page = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert again.read_text(encoding="utf-8") == page, f"vlm-gate report {folder}"


def test_reproduction_is_the_merge_of_the_committed_ones(tmp_path: Path) -> None:
    page = RESULTS / PAGE
    assert page.exists() == bool(REPRODUCED), f"{page}: neither without the other"
    if REPRODUCED:
        merge(REPRODUCED, tmp_path / PAGE)
        again = (tmp_path / PAGE).read_text(encoding="utf-8")
        assert again == page.read_text(encoding="utf-8"), "vlm-gate reproduce --merge"


def found(name: str, file: str = EVALUATION) -> Any:
    return json.loads((RESULTS / name / file).read_text(encoding="utf-8"))


def row(name: str) -> list[str]:
    """The cells of a row of docs/results.md, behind its name."""
    (cells,) = re.findall(rf"^\| {re.escape(name)} \| (.+) \|$", GLANCE, re.MULTILINE)
    return cells.split(" | ")


SIGNALS = {
    "**risk** (what the gate decides on)": ("signals", "risk"),
    "hidden-state probe": ("signals", "hidden_state_probe"),
    "token confidence": ("signals", "token_confidence"),
    "self-consistency, K = 10": ("signals", "self_consistency"),
    "attention: spatial entropy": ("signals", "attention_spatial_entropy"),
    "attention: top-30 % mass": ("signals", "attention_top30_mass"),
    "attention: clusters": ("signals", "attention_clusters"),
    "words of the question alone (control)": ("controls", "question_words"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signals_at_a_glance_are_those_of_the_evaluations(name: str) -> None:
    group, signal = SIGNALS[name]
    values = [found(model)[group][signal]["auroc"] for model in MODELS]
    assert row(name) == [interval(value) for value in values]


def interval(value: dict[str, float]) -> str:
    return f"{value['estimate']:.2f} [{value['lower']:.2f}, {value['upper']:.2f}]"


def test_certificates_at_a_glance_are_those_of_the_evaluations() -> None:
    judged = [found(model) for model in MODELS]
    whole = [next(one for one in all_["accepted"] if one["by"] is None) for all_ in judged]
    right = [all_["accuracy"]["all"]["accuracy"]["estimate"] for all_ in judged]
    catalog = [
        all_["domains"]["catalog"]["accuracy"]["all"]["accuracy"]["estimate"] for all_ in judged
    ]
    assert row("accepted") == [f"{one['coverage']['estimate'] * 100:.0f} %" for one in whole]
    assert row("wrong among the accepted") == [
        f"{one['error']['estimate'] * 100:.1f} %" for one in whole
    ]
    assert row("right among all line answers") == [f"{one * 100:.1f} %" for one in right]
    assert row("right among all catalog answers") == [f"{one * 100:.1f} %" for one in catalog]
    outside = {f"{one['out_of_domain']['share']['estimate'] * 100:.0f} %" for one in judged}
    assert [f"The price: {share} of the line's own questions" in said() for share in outside] == [
        True
    ]


def test_what_the_papers_ask_for_at_a_glance_is_measured() -> None:
    masking, carried = [], found("llava")["cross_domain"]["catalog"]["trained_there"]
    for model in MODELS:
        measured = found(model, REPRODUCTION)["comparison"]["masking"]
        masking += [
            100 * one["lost"]["drop"]["estimate"]
            for one in measured
            if (one["kind"], one["before"], one["after"]) == ("all", "whole", "top30")
        ]
    assert len(masking) == len(MODELS)
    assert f"costs {min(masking):.0f} to {max(masking):.0f} points" in said()
    assert f"ranks line answers at {interval(carried['judged_here'])}" in said()


def said() -> str:
    return " ".join(GLANCE.split())
