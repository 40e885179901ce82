"""Tables of how the probe was chosen, and of what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.report.table import Table, format_interval

MODELS: Mapping[str, str] = {
    "l2": "L2",
    "l1": "L1",
    "blank": "L2, taught with blank images",
    "ensemble": "mean over layers",
    "mlp": "MLP",
}
"""See :mod:`probes.fit.challengers`."""


def probe_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Build the tables, choices first, then checks; a table without numbers has no rows."""
    training = evaluation["training"]
    return [
        _model_table(training),
        _layer_table(evaluation),
        _fusion_table(training),
        _calibration_table(training, "", "calibration_candidates"),
        _calibration_table(training, " with self-consistency", "second_calibration_candidates"),
        _control_table(evaluation),
        _kind_table(evaluation),
        *(_domain_table(name, row) for name, row in evaluation.get("cross_domain", {}).items()),
    ]


def _model_table(training: Mapping[str, Any]) -> Table:
    rows = [
        (
            MODELS.get(row["name"], row["name"]),
            row["setting"],
            _number(row["auroc"]),
            format_interval(row["best_ahead_by"]),
            "yes" if row["servable"] else "no",
            "yes" if row["chosen"] else "",
        )
        for row in training.get("probe_models", ())
    ]
    return Table(
        "Probes on the selection split",
        ("probe", "setting", "AUROC", "best is ahead by", "can be served", "shipped"),
        tuple(rows),
        (
            "Simplest first. The simplest within noise of the best (the interval of the paired "
            "difference reaches 0) is shipped; a bundle holds one layer's linear probe, so the "
            "mean over layers and the MLP show what is given up.",
        ),
    )


def _layer_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (
            str(row["layer"]),
            row["position"],
            f"{row['regularisation']:g}",
            f"{row['select_auroc']:.3f}",
            format_interval(row["auroc"]),
        )
        for row in evaluation["probe_per_layer"]
    ]
    head = ("layer", "position", "C", "AUROC on select", "AUROC on test")
    note = (
        "L2 probes. The layer and position are chosen by the selection split; the test split shows "
        "what that choice was worth."
    )
    return Table("Probe per layer and position", head, tuple(rows), (note,))


def _fusion_table(training: Mapping[str, Any]) -> Table:
    rows = [
        (
            row["name"],
            f"{row['auroc']:.3f}",
            format_interval(row["best_ahead_by"]),
            "yes" if row["chosen"] else "",
        )
        for row in training["fusion_candidates"]
    ]
    alone = training.get("question_kinds", {}).get("auroc_alone")
    if alone is not None:
        rows.append(("kind of the question alone (control)", f"{alone:.3f}", "-", ""))
    return Table(
        "Fusion candidates on the selection split",
        ("candidate", "AUROC out of fold", "best is ahead by", "chosen"),
        tuple(rows),
        ("What the risk is made of: the simplest candidate within noise of the best is chosen.",),
    )


def _calibration_table(training: Mapping[str, Any], of: str, key: str) -> Table:
    rows = [
        (
            row["name"],
            f"{row['brier']:.4f}",
            f"{row['log_loss']:.4f}",
            format_interval(row["behind_best_by"]),
            "yes" if row["chosen"] else "",
        )
        for row in training.get(key, ())
    ]
    return Table(
        f"Calibration of the risk{of} on the selection split",
        ("map", "Brier", "log loss (nats)", "Brier behind the best", "chosen"),
        tuple(rows),
        (
            "Out of fold; less is better. The simplest map within noise of the best Brier score is "
            "chosen.",
        ),
    )


def _control_table(evaluation: Mapping[str, Any]) -> Table:
    controls = evaluation["controls"].values()
    compared = [
        (key, f"the {reader} is above by")
        for key, reader in (("probe_above", "probe"), ("risk_above", "risk"))
        if any(key in row for row in controls)
    ]
    rows = [
        (
            row["what"],
            format_interval(row["auroc"]),
            *(format_interval(row.get(key), signed=True) for key, _ in compared),
        )
        for row in controls
    ]
    head = ("control", "AUROC", *(title for _, title in compared))
    note = (
        "What can be predicted without reading what the probe is said to read. A probe that is "
        "not above a control (the interval reaches 0) may be reading no more than that."
    )
    return Table("Control probes on the test split", head, tuple(rows), (note,))


def _kind_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (
            kind,
            str(row["answers"]),
            format_interval(row["with_it"]),
            format_interval(row["without_it"]),
        )
        for kind, row in evaluation.get("kind_left_out", {}).items()
    ]
    return Table(
        "A kind of question left out of the probe's training",
        ("kind", "test answers", "AUROC, trained with it", "AUROC, trained without it"),
        tuple(rows),
        (
            "Judged on that kind alone. Where the last column falls to 0.5, what the probe knows "
            "of that kind does not come from the others.",
        ),
    )


def _domain_table(name: str, row: Mapping[str, Any]) -> Table:
    answers = row["answers"]
    rows = [
        (
            label,
            format_interval(row[trained]["judged_here"]),
            format_interval(row[trained]["judged_there"]),
        )
        for label, trained in (("home", "trained_here"), (name, "trained_there"))
    ]
    head = (
        "probe trained on",
        f"AUROC on home ({answers['here']} answers)",
        f"AUROC on {name} ({answers['there']} answers)",
    )
    note = (
        "Home is the data that the bundle was trained on. Each column has the same answers, none "
        "about an image that either probe was fitted to: compare within a column."
    )
    return Table(f"Probe across domains: home and {name}", head, tuple(rows), (note,))


def _number(value: float | Mapping[str, Any]) -> str:
    """Format a number without an interval, or why it is missing."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else f"missing: {value['missing']}"
