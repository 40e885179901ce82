from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from probes.errors import StoreError
from probes.fit.fusion import BY_KIND
from probes.judge.evaluate import evaluate
from probes.report.cards import Shown
from probes.report.plots import draw_all
from probes.report.report import load_evaluation, report, summary, warnings
from probes.report.table import format_interval
from probes.report.tables import build_tables
from probes.types import AttentionMaps, Missing


@pytest.fixture(scope="module")
def folder(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "evaluation"
    evaluate(run.store, run.certified, out, domains={"away": run.store}, resamples=20)
    return out


NEWER = {
    "Probes on the selection split",
    "Calibration of the risk on the selection split",
    "Calibration of the risk with self-consistency on the selection split",
    "A kind of question left out of the probe's training",
    "Probe across domains: home and away",
    "Accepted answers of the test split, per kind and slice",
}


def changed(folder: Path, out: Path, **values: Any) -> Path:
    """A copy of an evaluation with other values, as if it had been written so; None takes away."""
    evaluation, _ = load_evaluation(folder)
    evaluation = {k: v for k, v in {**evaluation, **values}.items() if v is not None}
    text = json.dumps(evaluation)
    out.mkdir()
    (out / "evaluation.json").write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (out / "manifest.json").write_text(json.dumps({"outputs": {"evaluation.json": digest}}))
    return out


def test_every_table_is_on_both_pages(folder: Path, tmp_path: Path) -> None:
    tables = build_tables(load_evaluation(folder)[0])
    assert {table.title for table in tables} >= NEWER
    out = report(folder, tmp_path / "out")
    markdown = (out / "report.md").read_text(encoding="utf-8")
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    for table in tables:
        assert f"## {table.title}\n" in markdown
        assert f">{table.title}</h2>" in page
        assert {len(row) for row in table.rows} == {len(table.head)}
        for cell in (cell for row in table.rows for cell in row):
            assert f"| {cell} |" in markdown
            assert f">{cell}</t" in page
        for note in table.notes:
            assert note in markdown
            assert note in page


def test_the_newer_tables_show_their_numbers(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    tables = {table.title: table for table in build_tables(evaluation)}
    probes = tables["Probes on the selection split"]
    assert [row[0] for row in probes.rows] == [
        "L2", "L1", "L2, taught with blank images", "mean over layers", "MLP",
    ]  # fmt: skip
    assert [row[-1] for row in probes.rows].count("yes") == 1
    assert probes.rows[2][2] == "missing: no_blank_run"
    (home, away) = tables["Probe across domains: home and away"].rows
    found = evaluation["cross_domain"]["away"]
    assert home[1:] == tuple(map(format_interval, found["trained_here"].values()))
    assert away[2] == format_interval(found["trained_there"]["judged_there"])
    for row in tables["A kind of question left out of the probe's training"].rows:
        assert row[3] == format_interval(evaluation["kind_left_out"][row[0]]["without_it"])
    controls = tables["Control probes on the test split"]
    above = [row["probe_above"] for row in evaluation["controls"].values()]
    assert [row[2] for row in controls.rows] == [format_interval(one, signed=True) for one in above]
    assert controls.head[-1] == "the risk is above by"
    risk = evaluation["controls"]["question_and_answer_words"]["risk_above"]
    assert controls.rows[3][-1] == format_interval(risk, signed=True)
    maps = tables["Calibration of the risk on the selection split"].rows
    assert [row[0] for row in maps] == ["platt", "isotonic", "venn_abers"]


def test_certificates_of_slices_are_told_apart(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    (row,), before = evaluation["certificates"][:1], len(evaluation["certificates"])
    evaluation["certificates"].append({**row, "slices": ["camera-1", "camera-2"]})
    (table,) = (one for one in build_tables(evaluation) if one.title == "Certificates")
    assert [row[2] for row in table.rows] == ["all"] * before + ["camera-1, camera-2"]
    assert any("names a slice" in note for note in table.notes)


def test_an_evaluation_from_before_those_tables_has_none_of_them(
    folder: Path, tmp_path: Path
) -> None:
    evaluation, _ = load_evaluation(folder)
    older = ("fusion_candidates", "probe_candidates", "risk_reference", "split")
    controls = {
        name: {key: value for key, value in row.items() if not key.endswith("_above")}
        for name, row in evaluation["controls"].items()
    }
    training = {key: evaluation["training"][key] for key in older}
    curves = {k: v for k, v in evaluation["curves"].items() if k != "attention"}
    gone = dict.fromkeys(("cross_domain", "kind_left_out", "flags", "accepted"))
    more = {"training": training, "controls": controls, "curves": curves}
    copy = changed(folder, tmp_path / "old", **more, **gone)
    tables = {table.title: table for table in build_tables(load_evaluation(copy)[0])}
    assert not NEWER & tables.keys()
    assert tables["Control probes on the test split"].head == ("control", "AUROC")
    report(copy, tmp_path / "out")


def test_what_each_test_spent_of_delta_is_told(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    (some, *_) = (row for row in evaluation["certificates"] if "certificate" in row)
    none = {"reason": "error_rate_too_high", "answers": 90, "n": 31, "k": 4, "groups": 112}
    none |= {"level": 0.01, "delta": 0.05}
    evaluation["certificates"].append({"alpha": 0.01, "self_consistency": "never", "none": none})
    some["certificate"] |= {"groups": 113, "level": 0.04}
    table = next(one for one in build_tables(evaluation) if one.title == "Certificates")
    cells = {row[3]: row for row in table.rows}
    assert table.head[-1] == "tested with"
    assert cells[some["certificate"]["id"]][-1] == "0.04 of delta 0.05, 113 groups"
    (without,) = (row for row in table.rows if row[-1] == "0.01 of delta 0.05, 112 groups")
    assert without[5] == "4 of 31 at the first threshold"
    assert {len(row) for row in table.rows} == {len(table.head)}


def test_accepted_answers_are_told_per_kind(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    tables = {table.title: table for table in build_tables(evaluation)}
    rows = tables["Accepted answers of the test split, per kind and slice"].rows
    assert [row[1] for row in rows[:3]] == ["all", "kind defect", "kind presence"]
    found = evaluation["accepted"][1]
    assert rows[1][3] == f"{found['accepted']} of {found['answers']}"
    assert rows[1][5] == f"{found['wrong']} of {found['accepted']}"
    assert rows[1][6] == format_interval(found["error"], percent=True)
    test = next(row["test"] for row in evaluation["certificates"] if "certificate" in row)
    assert format_interval(test["error"], percent=True) in str(tables["Certificates"].rows)


def test_the_kind_alone_stands_beside_the_fusion_by_kind(folder: Path) -> None:
    evaluation, _ = load_evaluation(folder)
    (table,) = (one for one in build_tables(evaluation) if one.title.startswith("Fusion"))
    assert [row[0] for row in table.rows][-2:] == [BY_KIND, "kind of the question alone (control)"]
    alone = evaluation["training"]["question_kinds"]["auroc_alone"]
    assert table.rows[-1][1:] == (f"{alone:.3f}", "-", "")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["probe_logit", "margin"], "the hidden-state probe and token confidence; the probe reads"),
        (["mean_logprob", "margin"], "token confidence (mean_logprob, margin); the hidden-state "),
        (["probe_logit", "kind@a", "probe_logit@a"], "weighed by the kind of question; the probe"),
    ],
)
def test_what_the_risk_is_made_of_is_true_to_the_bundle(
    folder: Path, features: list[str], said: str
) -> None:
    evaluation, _ = load_evaluation(folder)
    (told,) = (
        one for one in summary({**evaluation, "risk_features": features}) if "risk is made" in one
    )
    assert said in told
    assert ("is no part of it" in told) is ("probe_logit" not in features)


def test_an_evaluation_that_lacks_the_rest_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "copy", accuracy=None)
    with pytest.raises(StoreError, match="has no 'accuracy'; evaluate again"):
        report(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
    assert warnings(evaluation) == ()
    assert "), above the accuracy" not in str(build_tables(evaluation))
    evaluation["domains"]["away"]["accuracy"]["all"] |= {"below_majority": True}
    (told,) = warnings(evaluation)
    assert told.startswith("Warning: on away, accuracy of kind all")
    assert "), above the accuracy" in str(build_tables(evaluation))


def test_warnings_come_before_the_verdict(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "copy", flags=[{"name": "odd", "text": "labels are odd"}])
    out = report(copy, tmp_path / "out")
    for page in ("report.md", "report.html"):
        text = (out / page).read_text(encoding="utf-8")
        assert text.index("Warning: labels are odd.") < text.index("Accept an answer when")


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
