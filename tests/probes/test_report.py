from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from probes.errors import StoreError
from probes.evaluate import evaluate
from probes.plots import draw_all
from probes.report import load_evaluation, report, summary
from probes.report_examples import Shown
from probes.report_tables import format_interval
from probes.types import AttentionMaps, Missing


@pytest.fixture(scope="module")
def folder(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "evaluation"
    evaluate(run.store, run.certified, out, domains={"away": run.store}, resamples=20)
    return out


def test_markdown_holds_every_signal_and_certificate(folder: Path, tmp_path: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    text = (report(folder, tmp_path / "out") / "report.md").read_text(encoding="utf-8")
    for name in evaluation["signals"]:
        assert f"| {name} |" in text
    for row in evaluation["certificates"]:
        assert f"| {row['alpha']:g} | {row['self_consistency']} |" in text
    assert "Accuracy on away" in text
    assert "coverage at risk 5 %" in text
    assert "nan" not in text.lower().split()


def test_the_page_loads_nothing_and_follows_the_scheme(folder: Path, tmp_path: Path) -> None:
    page = (report(folder, tmp_path / "out") / "report.html").read_text(encoding="utf-8")
    for outside in ("<script", "@import", "url(http"):
        assert outside not in page
    assert set(re.findall(r'(?:src|href)="([a-z]+:|#)', page)) == {"data:", "#"}
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == 7
    assert "#010203" not in page


def test_plots_are_well_formed_and_the_same_every_time(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    plots = draw_all(evaluation)
    assert plots == draw_all(evaluation)
    for svg in plots.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_the_manifest_names_its_input(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((report(folder, tmp_path / "out") / "manifest.json").read_text())
    assert manifest["inputs"]["evaluation.json"] == load_evaluation(folder)[1]


def test_a_changed_evaluation_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("evaluation.json", "manifest.json"):
        (copy / name).write_bytes((folder / name).read_bytes())
    (copy / "evaluation.json").write_text("{}")
    with pytest.raises(StoreError, match="was changed"):
        report(copy, tmp_path / "out")
    with pytest.raises(StoreError, match="is not an evaluation"):
        report(tmp_path, tmp_path / "out")


def test_accuracy_below_the_commonest_answer_warns(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    assert not any("kind all" in text for text in summary(evaluation))
    evaluation["domains"]["away"]["accuracy"]["all"] |= {"below_majority": True}
    assert any("kind all" in text for text in summary(evaluation) if text.startswith("Warning"))


def test_examples_are_shown_with_their_images_and_attention(folder: Path, tmp_path: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    examples = evaluation["examples"]
    assert {one["group"] for one in examples} == {"confident_error", "rescued"}
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    maps = AttentionMaps((1,), np.ones((1, 6)), np.arange(6.0)[None], (2, 3))
    shown = [Shown(one, image, maps) for one in examples[:1]]
    shown += [Shown(one, image, Missing("other_answer")) for one in examples[1:]]
    page = (report(folder, tmp_path / "out", shown) / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == len(examples)
    assert page.count("data:image/png") == 1
    assert page.count("no attention map: other_answer") == len(examples) - 1


def test_missing_is_said_and_never_a_number() -> None:
    assert format_interval({"missing": "one_class"}) == "missing: one_class"
    assert format_interval(None) == "-"
    value = {"estimate": 0.5, "lower": 0.25, "upper": 0.75}
    assert format_interval(value, percent=True) == "50.0% [25.0%, 75.0%]"
