"""An evaluation as tables of text, the same for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probes.judge import BASELINE


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text, with what must be said about it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def build_tables(evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Every table of the report."""
    tables = [
        _signal_table("Signals on the test split", evaluation["signals"]),
        _difference_table(evaluation),
        _accuracy_table("Accuracy on the test split", evaluation["accuracy"]),
        _certificate_table(evaluation),
        _fusion_table(evaluation),
        _probe_table(evaluation),
        _control_table(evaluation),
        _attention_table(evaluation),
    ]
    for name, other in evaluation["domains"].items():
        share = format_interval(other["out_of_domain"]["share"], percent=True)
        accuracy = _accuracy_table(f"Accuracy on {name}", other["accuracy"])
        signals = _signal_table(f"Signals on {name}", other["signals"])
        note = (f"Out of the domain of validity: {share}.",)
        tables += [Table(accuracy.title, accuracy.head, accuracy.rows, note), signals]
    tables.append(_fingerprints(evaluation))
    return tuple(table for table in tables if table.rows)


_SIGNAL_COLUMNS: Mapping[str, str] = {
    "auroc": "AUROC",
    "point_biserial": "point-biserial R",
    "e_aurc": "E-AURC",
    "aurc": "AURC",
    "coverage_at_1%": "coverage at risk 1 %",
    "coverage_at_5%": "coverage at risk 5 %",
    "coverage_at_10%": "coverage at risk 10 %",
    "coverage_at_20%": "coverage at risk 20 %",
    "brier": "Brier",
    "ece": "ECE",
    "phi_1": "Phi at cost 1",
    "phi_10": "Phi at cost 10",
    "phi_100": "Phi at cost 100",
}


def _signal_table(title: str, signals: Mapping[str, Any]) -> Table:
    rows = [
        (name, *(format_interval(row.get(column)) for column in _SIGNAL_COLUMNS))
        for name, row in signals.items()
    ]
    return Table(title, ("signal", *_SIGNAL_COLUMNS.values()), tuple(rows))


def _difference_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (name, format_interval(row["auroc_above_token_confidence"], signed=True))
        for name, row in evaluation["signals"].items()
        if name != BASELINE and "auroc_above_token_confidence" in row
    ]
    return Table(
        "AUROC above token confidence, paired", ("signal", "difference of AUROC"), tuple(rows)
    )


def _accuracy_table(title: str, accuracy: Mapping[str, Any]) -> Table:
    rows = [
        (
            kind,
            str(row["answers"]),
            format_interval(row["accuracy"], percent=True),
            f"{row['majority_rate']:.1%} ({row['majority_answer']})",
        )
        for kind, row in accuracy.items()
    ]
    return Table(title, ("kind", "answers", "accuracy", "commonest answer"), tuple(rows))


def _certificate_table(evaluation: Mapping[str, Any]) -> Table:
    rows = []
    for row in evaluation["certificates"]:
        start = (f"{row['alpha']:g}", row["self_consistency"])
        if "certificate" in row:
            one, test = row["certificate"], row["test"]
            share = f"{test['wrong']} of {test['accepted']} ({test['coverage']:.1%} coverage)"
            tested = f"{one['k']} of {one['n']}"
            rows.append((*start, one["id"], f"{one['threshold']:.4f}", tested, share))
        else:
            reason = f"none: {row['none']['reason']} ({row['none']['answers']} answers)"
            rows.append((*start, reason, "-", "-", "-"))
    head = ("alpha", "self-consistency", "certificate", "threshold", "wrong when calibrated")
    alpha = evaluation["serving_alpha"]
    notes = (
        ("No certificate was tried for yet.",) if alpha is None else (f"Serves: alpha {alpha:g}.",)
    )
    return Table("Certificates", (*head, "wrong of accepted on the test split"), tuple(rows), notes)


def _fusion_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (
            row["name"],
            f"{row['auroc']:.3f}",
            format_interval(row["best_ahead_by"]),
            "yes" if row["chosen"] else "",
        )
        for row in evaluation["training"]["fusion_candidates"]
    ]
    return Table(
        "Fusion candidates on the selection split",
        ("candidate", "AUROC out of fold", "best is ahead by", "chosen"),
        tuple(rows),
        ("The simplest candidate within noise of the best is chosen.",),
    )


def _probe_table(evaluation: Mapping[str, Any]) -> Table:
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
    return Table("Probe per layer and position", head, tuple(rows))


def _control_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [(row["what"], format_interval(row["auroc"])) for row in evaluation["controls"].values()]
    return Table("Control probes on the test split", ("control", "AUROC"), tuple(rows))


def _attention_table(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (
            row["position"],
            str(row["layer"]),
            row["metric"],
            format_interval(row["auroc"]),
            format_interval(row["point_biserial"]),
        )
        for row in evaluation["attention_per_layer"]
    ]
    head = ("position", "layer", "metric", "AUROC", "point-biserial R")
    return Table("Attention per layer on the test split", head, tuple(rows))


def _fingerprints(evaluation: Mapping[str, Any]) -> Table:
    prints, model = evaluation["fingerprints"], evaluation["model"]
    rows = [
        ("bundle", evaluation["bundle"]),
        ("model", f"{model['name']} at {model['revision']}, {model['dtype']}, {model['engine']}"),
        ("store", prints["store"]),
        ("dataset", prints["dataset"]),
        *((f"store of {name}", value) for name, value in prints["domains"].items()),
    ]
    return Table("Fingerprints", ("what", "fingerprint"), tuple(rows))


def format_interval(
    value: Mapping[str, Any] | None, *, percent: bool = False, signed: bool = False
) -> str:
    """As text: ``0.712 [0.690, 0.735]``, or why it is missing, or ``-`` where none belongs."""
    if value is None:
        return "-"
    if "missing" in value:
        return f"missing: {value['missing']}"
    form = ".1%" if percent else ("+.3f" if signed else ".3f")
    middle, low, high = (format(value[key], form) for key in ("estimate", "lower", "upper"))
    return f"{middle} [{low}, {high}]"
