"""A reproduction's cells, one function for each table of :mod:`probes.reproduce.page`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.report.table import format_interval
from probes.reproduce.papers import R_CLUSTERS, R_ENTROPY
from probes.signals.catalogue import ATTENTION_SIGNS

Reproduction = Mapping[str, Any]
Cells = Mapping[tuple[str, ...], str]
"""What stands in a model's column, by the row's first cells."""

METRICS: Mapping[str, str] = {
    "spatial_entropy": "H_s (spatial entropy)",
    "clusters": "C_k (components)",
    "clusters_dbscan": "C_k (DBSCAN)",
    "top30_mass": "top-30 % mass",
    "image_mass": "mass on the image",
}
POSITIONS: Mapping[str, str] = {
    "prompt_last": "last prompt token",
    "answer_mean": "answer tokens",
    "answer_last": "last answer token",
}
POOLS: Mapping[str, str] = {"all": "all", "yes_no": "yes/no", "open": "other than yes/no"}
PARTS: Mapping[str, str] = {
    "whole": "nothing masked",
    "blank": "the whole image blank",
    "top30": "30 % most attended masked",
    "random30": "30 % at random masked",
    "bottom30": "30 % least attended masked",
}


def setting(one: Reproduction) -> Cells:
    test, generation = one["test"], one["generation"]
    return {
        ("decoder layers, width",): f"{one['model']['layers']}, {one['model']['hidden_size']}",
        ("arithmetic",): one["model"]["dtype"],
        ("test split",): f"{test['answers']} answers about {test['images']} images",
        ("answers with every signal",): str(test["judged"]),
        ("right answers",): format_interval(one["accuracy"]["all"]["accuracy"], percent=True),
        ("probe",): f"layer {one['probe']['layer']} at {one['probe']['position']}",
        ("samples",): f"{generation['samples']} at T = {generation['temperature']:g}, "
        f"top-p {generation['top_p']:g}",
    }


def numbers(one: Reproduction) -> Cells:
    ours = {claim["name"]: claim["ours"] for claim in one["claims"]}
    pools = one["comparison"]["signals"]
    confidence, probe = (
        format_interval(pools["open"].get("signals", {}).get(name, {}).get("auroc"))
        for name in ("token_confidence", "hidden_state_probe")
    )

    samples = one["generation"]["samples"]

    def value(name: str) -> str:
        return format_interval(ours[name], signed=name.startswith("r_"))

    return {
        ("R of C_k (components)", R_CLUSTERS): value("r_clusters"),
        ("R of C_k (DBSCAN)", R_CLUSTERS): value("r_clusters_dbscan"),
        ("R of H_s", R_ENTROPY): value("r_spatial_entropy"),
        ("R of top-30 % mass", "-"): next(
            (
                format_interval(row["r"], signed=True)
                for row in one["comparison"]["attention"]
                if (row["metric"], row["position"], row["kind"])
                == ("top30_mass", "answer_mean", "all")
            ),
            "-",
        ),
        ("yes/no: AUROC of H_s", ".50 / .50 / .50"): value("yes_no_spatial_entropy"),
        ("yes/no: AUROC of C_k", ".50 / .50 / .50"): value("yes_no_clusters"),
        ("yes/no: AUROC of logit entropy", ".50 / .52 / .51"): value("yes_no_entropy"),
        ("yes/no: AUROC of output confidence", ".54 / .55 / .53"): value("yes_no_confidence"),
        ("yes/no: AUROC of the probe", ".956 / .738 / .971"): value("yes_no_probe"),
        ("yes/no: AUROC of self-consistency, K = 10", ".78 / .81 / .79"): (
            f"{value('yes_no_consistency')}{_samples(samples)}"
        ),
        ("R of self-consistency, K = 10", "0.429 to 0.43"): (
            f"{value('r_consistency')}{_samples(samples)}"
        ),
        (
            "other questions: confidence -> probe",
            "VQA v2 .559->.745 / .892->.795 / .892->.778; "
            "TextVQA .563->.721 / .859->.806 / .774->.852",
        ): f"{confidence} -> {probe}",
        ("accuracy lost, top 30 % masked", "8.2 to 11.3 points, p < 0.001"): _lost(
            ours["masked_top30"]
        ),
        ("accuracy lost, top 5 neurons ablated", "8.3 points / - / -"): _lost(ours["ablated_few"]),
        (
            "accuracy lost, half of the layer ablated",
            "- / at most 1 point / at most 1 point",
        ): _lost(ours["ablated_half"]),
    }


def _samples(count: int) -> str:
    """Name the number of samples where it is not the papers'."""
    return "" if count == 10 else f" (K = {count})"


def claims(one: Reproduction) -> Cells:
    cells: dict[tuple[str, ...], str] = {}
    for claim in one["claims"]:
        ours = claim["ours"]
        value = (
            _lost(ours)
            if "drop" in ours
            else format_interval(ours, signed=claim["name"].startswith("r_"))
        )
        told = f"**{claim['verdict'] or 'not judged'}**: {value}"
        cells[claim["claim"], claim["papers"], claim["rule"]] = (
            told if claim["about_this_family"] else f"({told})"
        )
    return cells


def attention(one: Reproduction) -> Cells:
    rows = sorted(  # stable: kinds of question stay as they are, all of them first
        one["comparison"]["attention"],
        key=lambda row: (list(METRICS).index(row["metric"]), row["position"]),
    )
    return {
        (METRICS[row["metric"]], POSITIONS[row["position"]], row["kind"]): (
            f"{format_interval(row['r'], signed=True)}{_bounds(row['fisher'])}"
        )
        for row in rows
    }


def _bounds(value: Mapping[str, Any]) -> str:
    return "" if "missing" in value else f" ({value['lower']:+.3f}, {value['upper']:+.3f})"


def attention_layers(one: Reproduction) -> Cells:
    """Fill the table by layer; R is turned, as the evaluation gives it for errors."""
    rows = sorted(
        one["attention_per_layer"], key=lambda row: (row["metric"], row["position"], row["layer"])
    )
    return {
        (METRICS[row["metric"]], POSITIONS[row["position"]], str(row["layer"])): (
            f"{format_interval(row['auroc'])}; R "
            f"{_right(row['point_biserial'], -ATTENTION_SIGNS[row['metric']])}"
        )
        for row in rows
    }


def _right(value: Mapping[str, Any], sign: int) -> str:
    if "missing" not in value and sign < 0:
        low, high = -value["upper"], -value["lower"]
        value = {"estimate": -value["estimate"], "lower": low, "upper": high}
    return format_interval(value, signed=True)


def heads(one: Reproduction) -> Cells:
    cells: dict[tuple[str, ...], str] = {}
    rows = [row for row in one["comparison"]["heads"] if "missing" not in row["auroc"]]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = sorted(
            (row for row in rows if row["metric"] == metric),
            key=lambda row: float(row["auroc"]["estimate"]),
        )
        apart = sum(not row["auroc"]["lower"] <= 0.5 <= row["auroc"]["upper"] for row in mine)
        cells[METRICS[metric], "intervals that leave 0.5 out"] = f"{apart} of {len(mine)}"
        for name, row in (("highest AUROC", mine[-1]), ("lowest AUROC", mine[0])):
            cells[METRICS[metric], name] = (
                f"{format_interval(row['auroc'])}, head {row['head']} of layer {row['layer']}"
            )
    return cells


def prompt_side(one: Reproduction) -> Cells:
    return {
        (row["metric"], str(row["layer"])): (
            f"{format_interval(row['auroc'])}; R {format_interval(row['r'], signed=True)}"
        )
        for row in sorted(
            one["comparison"]["prompt_side"], key=lambda row: (row["metric"], row["layer"])
        )
    }


def signals(one: Reproduction) -> Cells:
    return {
        (POOLS[pool], name): format_interval(row["auroc"])
        for pool, content in one["comparison"]["signals"].items()
        for name, row in content.get("signals", {}).items()
    }


def signal_correlations(one: Reproduction) -> Cells:
    return {
        (POOLS[pool], name): (
            f"{format_interval(row['point_biserial'], signed=True)}{_bounds(row['fisher'])}"
        )
        for pool, content in one["comparison"]["signals"].items()
        for name, row in content.get("signals", {}).items()
    }


def against(one: Reproduction) -> Cells:
    return {
        (name,): format_interval(row["auroc_above_token_confidence"], signed=True)
        for name, row in one["signals"].items()
        if "auroc_above_token_confidence" in row
    }


def probe_layers(one: Reproduction) -> Cells:
    rows = sorted(one["probe_per_layer"], key=lambda row: (row["position"], row["layer"]))
    return {
        (POSITIONS[row["position"]], str(row["layer"])): format_interval(row["auroc"])
        for row in rows
    }


def margins(one: Reproduction) -> Cells:
    return {
        (POOLS[row["pool"]], str(row["layer"])): format_interval(row["auroc"])
        for row in one["comparison"]["margins"]
    }


def evidence(one: Reproduction) -> Cells:
    return {
        (POOLS[row["pool"]], PARTS[row["masking"]]): (
            f"{format_interval(row['logprob_drop']['auroc'])}; flip "
            f"{format_interval(row['share_flipped'], percent=True)}"
        )
        for row in one["comparison"]["evidence"]
    }


def masking(one: Reproduction) -> Cells:
    return {
        (row["kind"], PARTS[row["before"]], PARTS[row["after"]]): (
            f"{row['lost']['before']:.1%} to {row['lost']['after']:.1%}; {_lost(row['lost'])}"
        )
        for row in one["comparison"]["masking"]
    }


def ablation(one: Reproduction) -> Cells:
    rows = one["comparison"]["ablation"]
    if not isinstance(rows, list):
        return {("-", "-", "-"): f"missing: {rows['missing']}"}
    cells: dict[tuple[str, ...], str] = {}
    for row in rows:
        place = (str(row["neurons"]), row["held"])
        least, most = (100 * row[name] for name in ("random_least", "random_most"))
        cells[*place, "top"] = _lost(row["top"])
        cells[*place, "random"] = f"{_points(row['random'])}; {least:.1f} to {most:.1f}"
        cells[*place, "top above random"] = _points(row["top_above_random"])
    return cells


def controls(one: Reproduction) -> Cells:
    return {
        (row["what"],): (
            f"{format_interval(row['auroc'])}; probe above by "
            f"{format_interval(row['probe_above'], signed=True)}"
        )
        for row in one["controls"].values()
    }


def accuracy(one: Reproduction) -> Cells:
    return {
        (kind,): f"{format_interval(row['accuracy'], percent=True)} of {row['answers']}; always "
        f"{row['majority_answer']!r}: {row['majority_rate']:.1%}"
        for kind, row in one["accuracy"].items()
    }


def certificates(one: Reproduction) -> Cells:
    cells: dict[tuple[str, ...], str] = {}
    for row in one["certificates"]:
        if "slices" in row:
            continue
        if "certificate" in row:
            test = row["test"]
            told = f"{test['coverage']:.1%} accepted, {test['wrong']} of {test['accepted']} wrong"
        else:
            told = f"none: {row['none']['reason']} ({row['none']['answers']} answers)"
        cells[f"{row['alpha']:g}", row["self_consistency"]] = told
    return cells


def not_measured(one: Reproduction) -> Cells:
    return {
        (name, reason): f"{count} answers"
        for name, reasons in one["not_measured"].items()
        for reason, count in reasons.items()
    } | dict.fromkeys(one["missing_signals"].items(), "all answers")


def fingerprints(one: Reproduction) -> Cells:
    return {
        ("model",): f"`{one['model']['revision'][:12]}`",
        ("dataset",): f"`{one['fingerprints']['dataset'][:12]}`",
        ("store",): f"`{one['fingerprints']['store'][:12]}`",
    }


def _lost(lost: Mapping[str, Any]) -> str:
    """Format points of accuracy lost, and McNemar's p."""
    if "missing" in lost:
        return f"missing: {lost['missing']}"
    p = "p < 0.001" if lost["p_value"] < 0.001 else f"p = {lost['p_value']:.3f}"
    return f"{_points(lost['drop'])}, {p}"


def _points(value: Mapping[str, Any]) -> str:
    if "missing" in value:
        return f"missing: {value['missing']}"
    low, middle, high = (100 * value[name] for name in ("lower", "estimate", "upper"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}] points"
