"""An evaluation as tables of text, the same for Markdown and HTML.

A table whose numbers an older evaluation does not hold is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.report.accepted_table import accepted_table
from probes.report.probe_tables import probe_tables
from probes.report.table import Table, format_interval
from probes.report.verdict import error_on_test, tested_without
from probes.signals.catalogue import ATTENTION_SIGNS


def build_tables(evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Build every table. Raises KeyError for an evaluation that lacks a basic field."""
    tables = [
        *_signal_tables("the test split", evaluation["signals"]),
        _accuracy_table("the test split", evaluation["accuracy"]),
        _certificate_table(evaluation),
        accepted_table(evaluation),
        *probe_tables(evaluation),
        *_attention_tables(evaluation),
    ]
    for name, other in evaluation["domains"].items():
        share = format_interval(other["out_of_domain"]["share"], percent=True)
        outside = f"Out of the domain of validity: {share}."
        tables.append(_accuracy_table(name, other["accuracy"], outside))
        tables += _signal_tables(name, other["signals"])
    tables.append(_fingerprints(evaluation))
    return tuple(table for table in tables if table.rows)


_RANKING: Mapping[str, str] = {
    "auroc": "AUROC",
    "auroc_above_token_confidence": "above token confidence",
    "point_biserial": "point-biserial R",
    "aurc": "AURC",
    "e_aurc": "E-AURC",
    "brier": "Brier",
    "ece": "ECE",
}
_COVERAGE: Mapping[str, str] = {
    **{f"coverage_at_{level}%": f"coverage at risk {level} %" for level in (1, 5, 10, 20)},
    **{f"phi_{cost}": f"Phi at cost {cost}" for cost in (1, 10, 100)},
}


def _signal_tables(where: str, signals: Mapping[str, Any]) -> list[Table]:
    def table(title: str, columns: Mapping[str, str], note: str) -> Table:
        rows = [
            (
                name,
                *(
                    format_interval(row.get(column), signed=column.startswith("auroc_above"))
                    for column in columns
                ),
            )
            for name, row in signals.items()
        ]
        return Table(title, ("signal", *columns.values()), tuple(rows), (note,))

    return [
        table(
            f"Signals on {where}",
            _RANKING,
            "How well each signal ranks wrong answers above right ones: AUROC 0.5 is chance. Above "
            "token confidence: difference of AUROC on the same answers, paired by image. Brier and "
            "ECE are of calibrated risks alone.",
        ),
        table(
            f"Coverage and reliability on {where}",
            _COVERAGE,
            "Coverage: the most answers that can be kept, by this signal, with that share of them "
            "wrong; picked on these answers, so no promise. Phi is the gain per answer when a "
            "right one kept counts 1 and a wrong one minus the cost, with the threshold from the "
            "calibration split.",
        ),
    ]


def _accuracy_table(where: str, accuracy: Mapping[str, Any], *notes: str) -> Table:
    rows = [
        (
            kind,
            str(row["answers"]),
            format_interval(row["accuracy"], percent=True),
            f"{row['majority_rate']:.1%} ({row['majority_answer']})"
            + (", above the accuracy" if row["below_majority"] else ""),
        )
        for kind, row in accuracy.items()
    ]
    return Table(
        f"Accuracy on {where}",
        ("kind", "answers", "accuracy", "commonest answer"),
        tuple(rows),
        (
            *notes,
            "Commonest answer: how often one answer to every question would be right. Where that "
            "is above the accuracy, look at the labels first.",
        ),
    )


def _certificate_table(evaluation: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = []
    found = evaluation["certificates"]
    for row in found:
        start = (
            f"{row['alpha']:g}",
            row["self_consistency"],
            ", ".join(row.get("slices", ("all",))),
        )
        if "certificate" in row:
            one, test = row["certificate"], row["test"]
            share = f" ({error_on_test(test)})" if test["accepted"] else ""
            rows.append(
                (
                    *start,
                    one["id"],
                    f"{one['threshold']:.4f}",
                    f"{one['k']} of {one['n']}",
                    f"{test['wrong']} of {test['accepted']}{share}",
                    f"{test['coverage']:.1%}",
                )
            )
        else:
            none = row["none"]
            reason = f"none: {none['reason']} ({none['answers']} answers)"
            rows.append((*start, reason, "-", tested_without(none) or "-", "-", "-"))
    spent = [_spent(row.get("certificate", row.get("none", {}))) for row in found]
    if any(spent):
        rows = [(*row, level or "-") for row, level in zip(rows, spent, strict=True)]
    alpha = evaluation["serving_alpha"]
    serves = "No certificate was tried for yet." if alpha is None else f"Serves: alpha {alpha:g}."
    several = "slices" in {key for row in found for key in row}
    about_slices = (
        "A request that names a slice is served by that slice's certificate, or by none; one that "
        "names none by the certificate of all slices together. Those of one alpha and one mode "
        "share delta, so that all of them hold at once.",
    )
    about_tries = (
        "Tested with: every try on the same data spends of one delta, this much in this test. What "
        "was tried where no record was left cannot be counted.",
    )
    return Table(
        "Certificates",
        (
            "alpha", "self-consistency", "slices", "certificate", "threshold",
            "wrong when calibrated", "wrong of accepted on test", "accepted on test",
            *(["tested with"] if any(spent) else []),
        ),
        tuple(rows),
        (
            f"{serves} At most alpha of the accepted answers are wrong; accepted are risks up to "
            "the threshold. Self-consistency: asked for never, in the middle band (auto), or "
            "always.",
            *(about_slices if several else ()),
            *(about_tries if any(spent) else ()),
        ),
    )  # fmt: skip


def _spent(outcome: Mapping[str, Any]) -> str:
    """Describe a test's groups and share of delta, as far as the evaluation knows them."""
    groups, level = outcome.get("groups"), outcome.get("level")
    if level is None:
        return ""
    told = f"{level:.4g} of delta {outcome['delta']:g}"
    return told if groups is None else f"{told}, {groups} groups"


def _attention_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    found = evaluation["attention_per_layer"]
    metrics = [name for name in ATTENTION_SIGNS if any(row["metric"] == name for row in found)]
    cells = {(row["position"], row["layer"], row["metric"]): row for row in found}
    places = dict.fromkeys((row["position"], row["layer"]) for row in found)

    def table(title: str, value: str, note: str) -> Table:
        rows = [
            (
                position,
                str(layer),
                *(
                    format_interval(cells.get((position, layer, metric), {}).get(value))
                    for metric in metrics
                ),
            )
            for position, layer in places
        ]
        return Table(title, ("position", "layer", *metrics), tuple(rows), (note,))

    return [
        table(
            "Attention per layer on the test split: AUROC",
            "auroc",
            "Concentrated attention counts as low risk, as is believed: above 0.5 that is so, "
            "below 0.5 it is the other way round.",
        ),
        table(
            "Attention per layer on the test split: point-biserial R",
            "point_biserial",
            "Of that risk with errors.",
        ),
    ]


def _fingerprints(evaluation: Mapping[str, Any]) -> Table:
    prints, model = evaluation["fingerprints"], evaluation["model"]
    blank = prints.get("blank")
    rows = [
        ("bundle", evaluation["bundle"]),
        ("model", f"{model['name']} at {model['revision']}, {model['dtype']}, {model['engine']}"),
        ("store", prints["store"]),
        *([] if blank is None else [("store with blank images", blank)]),
        ("dataset", prints["dataset"]),
        *((f"store of {name}", value) for name, value in prints["domains"].items()),
    ]
    return Table("Fingerprints", ("what", "fingerprint"), tuple(rows))
