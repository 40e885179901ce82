"""Writes an evaluation as Markdown and as one HTML page that needs nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes.errors import StoreError
from probes.judge.evaluate import EVALUATION
from probes.report.cards import Shown, to_card
from probes.report.page import render_page
from probes.report.plots import draw_all
from probes.report.risk_words import has_probe, made_of
from probes.report.table import Table, format_interval, to_markdown
from probes.report.tables import build_tables
from probes.report.verdict import verdict

MARKDOWN, PAGE = "report.md", "report.html"


def report(evaluation_folder: Path, out: Path, shown: Sequence[Shown] = ()) -> Path:
    """Write ``report.md``, ``report.html`` and ``manifest.json`` to a new folder.

    Args:
        shown: the evaluation's examples with their images, for the page.

    Returns the folder. Raises StoreError when the evaluation cannot be read, was changed or lacks
    something, or the folder exists.
    """
    evaluation, digest = load_evaluation(evaluation_folder)
    if out.exists():
        raise StoreError(f"{out}: exists already; every step writes a new folder")
    try:
        pages = _pages(evaluation, shown)
    except KeyError as error:
        raise StoreError(f"{evaluation_folder}: has no {error}; evaluate again") from error
    out.mkdir(parents=True)
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
    manifest = {
        "step": "report",
        "inputs": {EVALUATION: digest, "bundle": evaluation["bundle"]},
        "outputs": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in pages.items()
        },
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return out


def _pages(evaluation: Mapping[str, Any], shown: Sequence[Shown]) -> dict[str, str]:
    """Render every page: file name -> text."""
    tables, title, warned = build_tables(evaluation), heading(evaluation), warnings(evaluation)
    first, then = verdict(evaluation), summary(evaluation)
    plots, cards = draw_all(evaluation), [to_card(one) for one in shown]
    return {
        MARKDOWN: page_markdown(title, (*warned, *first, *then), tables),
        PAGE: render_page(title, warned, first, then, tables, plots, cards),
    }


def load_evaluation(folder: Path) -> tuple[dict[str, Any], str]:
    """Read an evaluation and its SHA-256, checked against the manifest beside it."""
    try:
        data = (folder / EVALUATION).read_bytes()
        manifest = json.loads((folder / "manifest.json").read_bytes())
        evaluation: dict[str, Any] = json.loads(data)
        expected = manifest["outputs"][EVALUATION]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder}: is not an evaluation ({error}); run evaluate") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise StoreError(f"{folder / EVALUATION}: was changed after it was written; evaluate again")
    return evaluation, digest


def heading(evaluation: Mapping[str, Any]) -> str:
    """The report's title."""
    return f"How far can {evaluation['model']['name']} be trusted?"


def warnings(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the warnings that come before any number; the verdict covers a missing certificate."""
    warnings = evaluation.get("flags", ())
    found = [f"Warning: {one['text']}." for one in warnings if one["name"] != "no_certificate"]
    for name, other in evaluation["domains"].items():
        found += _below_majority(name, other["accuracy"])
    return tuple(found)


def summary(evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Paragraphs before the tables."""
    test, domain = evaluation["test"], evaluation["out_of_domain"]
    missing = evaluation["missing_signals"]
    return (
        f"Test split: {test['answers']} answers about {test['images']} images, which nothing was "
        f"fitted to. {test['judged']} answers have every signal and are compared; "
        f"{test['dropped']} lack one. Intervals are 95 %, bootstrapped by image. For AUROC, R and "
        "coverage more is better; for AURC, E-AURC, Brier and ECE less.",
        *_likeness(evaluation.get("likeness")),
        *([evaluation["tries"]] if evaluation.get("tries") else []),
        _risk_sentence(evaluation),
        "Out of the domain of validity: "
        f"{format_interval(domain['share'], percent=True)} of the test split.",
        *(f"Signal {name} is missing: {reason}." for name, reason in missing.items()),
    )


def _risk_sentence(evaluation: Mapping[str, Any]) -> str:
    features, probe = evaluation["risk_features"], evaluation["probe"]
    place = f"layer {probe['layer']} at {probe['position']}"
    read = (
        f"the probe reads {place}"
        if has_probe(features)
        else f"the hidden-state probe ({place}) is no part of it: on the selection split it added "
        "nothing beyond noise"
    )
    return (
        f"The risk is made of {made_of(features)}; {read}. Attention is compared, and never "
        "decided on."
    )


def page_markdown(title: str, paragraphs: Sequence[str], tables: Sequence[Table]) -> str:
    """Render the report as GitHub-flavoured Markdown."""
    blocks = [f"# {title}", "Made by `vlm-gate report`; do not edit.", *paragraphs]
    return "\n\n".join([*blocks, *map(to_markdown, tables)]) + "\n"


def _likeness(found: Mapping[str, Any] | None) -> list[str]:
    """Describe how alike the images are; older evaluations do not say."""
    if found is None:
        return []
    said = (
        f"The run has {found['images']} images in {found['groups']} groups (at most "
        f"{found['largest']} in one), which splits, intervals and certificates go by; "
        f"{found['joined']:.1%} of the images share a group by name, equal pixels or looks."
    )
    near = found["nearest"]
    if "missing" in near:
        reason = near["missing"].replace("_", " ")
        return [f"{said} How alike images of different groups are is not known ({reason})."]
    return [
        f"{said} From an image to the nearest of another group it is {near['0.5']:.2f} (median; "
        f"5 % are nearer than {near['0.05']:.2f}), on a scale from 0 (alike) to 2."
    ]


def _below_majority(where: str, accuracy: Mapping[str, Any]) -> list[str]:
    return [
        f"Warning: on {where}, accuracy of kind {kind} ({row['accuracy']['estimate']:.1%}) is "
        f"below always answering {row['majority_answer']!r} ({row['majority_rate']:.1%}); "
        "check the labels."
        for kind, row in accuracy.items()
        if row["below_majority"]
    ]
