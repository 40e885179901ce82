"""One or several reproductions as a page of Markdown, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probes.judge import ATTENTION_SIGNS
from probes.papers import R_CLUSTERS, R_ENTROPY, verdict_counts
from probes.table import Table, format_interval

Reproduction = Mapping[str, Any]
Cells = Mapping[tuple[str, ...], str]

INTRODUCTION = (
    "What arXiv 2605.08200 and 2606.17389 (VRP) claim about signals of a right answer, and what "
    "came out here; prompt-side attention after 2606.23763 (PV-TAM) is a stand-in of our own, as "
    "its formulae are not public. Made by `vlm-gate reproduce`; do not edit.",
    "Everything is measured on the test split, which nothing was fitted to. Brackets are 95 % "
    "intervals, bootstrapped by image; Fisher's, where told, takes answers as independent, and so "
    "does McNemar's exact test. R is the point-biserial correlation with being right; AUROC is "
    "that of the risk, in the direction that a signal's proponents claim (concentrated attention "
    "means right), so below .5 it ranks the other way round.",
    "The papers' POPE stands beside our yes/no questions, their VQA v2 beside our other ones, and "
    "their models are others than these: a claim that is not seen here may hold there.",
)


def render(found: Sequence[Reproduction]) -> str:
    """The whole page."""
    blocks = ["# The papers' comparison, reproduced", *INTRODUCTION, *_verdicts(found)]
    for table in _tables(found):
        if table.rows:
            lines = [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows)]
            blocks += [f"## {table.title}", *table.notes, "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _verdicts(found: Sequence[Reproduction]) -> list[str]:
    """Per model how many claims were seen, and what the evaluation warns of."""
    warnings = [f"{_name(one)}: {flag['text']}." for one in found for flag in one["flags"]]
    return [
        f"**{_name(one)}**: of the claims about its family "
        + ", ".join(
            f"{count} {verdict}" for verdict, count in verdict_counts(one["claims"]).items()
        )
        + "."
        for one in found
    ] + warnings


def _name(one: Reproduction) -> str:
    family, name = one["model"]["family"], one["model"]["name"]
    return name if name == family else f"{name} ({family})"


def _pivot(
    title: str,
    keys: Sequence[str],
    found: Sequence[Reproduction],
    cells: Callable[[Reproduction], Cells],
    *notes: str,
) -> Table:
    """A row per key, a column per model; ``-`` where a model has none."""
    columns = [cells(one) for one in found]
    rows = dict.fromkeys(key for column in columns for key in column)
    return Table(
        title,
        (*keys, *map(_name, found)),
        tuple((*key, *(column.get(key, "-") for column in columns)) for key in rows),
        notes,
    )


def _tables(found: Sequence[Reproduction]) -> list[Table]:
    return [
        _pivot("Models and data", ("",), found, _setting),
        _pivot("The papers' numbers and ours", ("quantity", "papers"), found, _numbers),
        _pivot(
            "Their claims", ("claim", "papers", "seen when"), found, _claims,
            "In brackets: a claim about other families, not counted above.",
        ),
        _pivot(
            "Attention and being right", ("metric", "from", "questions"), found, _attention,
            "Attention averaged over layers and heads, then measured: R, its interval by image, "
            "Fisher's interval.",
        ),
        _pivot(
            "Attention by layer", ("metric", "from", "layer"), found, _attention_layers,
            "AUROC; R with being right.",
        ),
        _pivot(
            "Attention by head", ("metric", ""), found, _heads,
            "From the answer's tokens. Extremes among many heads are picked on these very answers "
            "and look better than they are.",
        ),
        _pivot(
            "Prompt-side attention", ("metric", "layer"), found, _prompt_side,
            "AUROC; R. A stand-in: content words' map minus that of the template's tokens.",
        ),
        _pivot(
            "Signals", ("questions", "signal"), found, _signals,
            "AUROC; R of the risk with errors, its interval by image, Fisher's interval.",
        ),
        _pivot(
            "Signals against token confidence", ("signal",), found, _against,
            "Paired difference of AUROC on the same answers.",
        ),
        _pivot("Probe by layer", ("position", "layer"), found, _probe_layers, "AUROC."),
        _pivot(
            "Margins by layer (logit lens)", ("questions", "layer"), found, _margins,
            "AUROC of a small margin: of the answer given for yes/no, else top 1 against top 2.",
        ),
        _pivot(
            "Visual evidence as a signal", ("questions", "taken away"), found, _evidence,
            "AUROC of a small drop of the answer's log-probability; share of answers that flip.",
        ),
        _pivot(
            "Accuracy with parts of the image masked", ("questions", "from", "to"), found, _masking,
            "Accuracy before and after; points lost; McNemar's p.",
        ),
        _pivot(
            "Neurons ablated", ("neurons", "held at"), found, _ablation,
            "Points of accuracy lost by ablating the probe's top neurons (McNemar's p) and random "
            "ones (mean over draws, least to most), and by how much more the top ones cost.",
        ),
        _pivot(
            "Controls", ("control",), found, _controls,
            "AUROC of what can be predicted without what the probe is said to read; how far the "
            "probe is above it.",
        ),
        _pivot("Accuracy", ("questions",), found, _accuracy),
        _pivot("Fingerprints", ("",), found, _fingerprints),
    ]  # fmt: skip


def _setting(one: Reproduction) -> Cells:
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


def _numbers(one: Reproduction) -> Cells:
    ours = {claim["name"]: claim["ours"] for claim in one["claims"]}
    pools = one["comparison"]["signals"]
    confidence, probe = (
        format_interval(pools["open"].get("signals", {}).get(name, {}).get("auroc"))
        for name in ("token_confidence", "hidden_state_probe")
    )

    def value(name: str) -> str:
        return format_interval(ours[name])

    return {
        ("R of C_k (components)", R_CLUSTERS): value("r_clusters"),
        ("R of C_k (DBSCAN)", R_CLUSTERS): value("r_clusters_dbscan"),
        ("R of H_s", R_ENTROPY): value("r_spatial_entropy"),
        ("R of top-30 % mass", "-"): _attention(one).get(("top30_mass", "answer_mean", "all"), "-"),
        ("yes/no: AUROC of H_s", ".50 / .50 / .50"): value("yes_no_spatial_entropy"),
        ("yes/no: AUROC of C_k", ".50 / .50 / .50"): value("yes_no_clusters"),
        ("yes/no: AUROC of logit entropy", ".50 / .52 / .51"): value("yes_no_entropy"),
        ("yes/no: AUROC of output confidence", ".54 / .55 / .53"): value("yes_no_confidence"),
        ("yes/no: AUROC of the probe", ".956 / .738 / .971"): value("yes_no_probe"),
        ("yes/no: AUROC of self-consistency", ".78 / .81 / .79"): value("yes_no_consistency"),
        ("R of self-consistency", "0.429 to 0.43"): value("r_consistency"),
        (
            "other questions: confidence -> probe",
            "VQA v2 .559->.745 / .892->.795 / .892->.778; "
            "TextVQA .563->.721 / .859->.806 / .774->.852",
        ): f"{confidence} -> {probe}",
        ("points lost, top 30 % masked", "8.2 to 11.3, p < 0.001"): _lost(ours["masked_top30"]),
        ("points lost, top 5 neurons ablated", "8.3 / - / -"): _lost(ours["ablated_few"]),
        ("points lost, half of the layer ablated", "- / at most 1 / at most 1"): _lost(
            ours["ablated_half"]
        ),
    }


def _claims(one: Reproduction) -> Cells:
    cells: dict[tuple[str, ...], str] = {}
    for claim in one["claims"]:
        ours = claim["ours"]
        value = _lost(ours) if "drop" in ours else format_interval(ours)
        verdict = f"*{claim['verdict']}*: " if claim["verdict"] else ""
        told = f"{verdict}{value}"
        cells[claim["claim"], claim["papers"], claim["rule"]] = (
            told if claim["about_this_family"] else f"({told})"
        )
    return cells


def _attention(one: Reproduction) -> Cells:
    return {
        (row["metric"], row["position"], row["kind"]): (
            f"{format_interval(row['r'], signed=True)}{_bounds(row['fisher'])}"
        )
        for row in one["comparison"]["attention"]
    }


def _bounds(value: Mapping[str, Any]) -> str:
    return "" if "missing" in value else f" ({value['lower']:+.3f}, {value['upper']:+.3f})"


def _attention_layers(one: Reproduction) -> Cells:
    """The evaluation tells R of the risk with errors, which is turned here."""
    rows = sorted(
        one["attention_per_layer"], key=lambda row: (row["metric"], row["position"], row["layer"])
    )
    return {
        (row["metric"], row["position"], str(row["layer"])): (
            f"{format_interval(row['auroc'])}; "
            f"{_right(row['point_biserial'], -ATTENTION_SIGNS[row['metric']])}"
        )
        for row in rows
    }


def _right(value: Mapping[str, Any], sign: int) -> str:
    if "missing" not in value and sign < 0:
        low, high = -value["upper"], -value["lower"]
        value = {"estimate": -value["estimate"], "lower": low, "upper": high}
    return format_interval(value, signed=True)


def _heads(one: Reproduction) -> Cells:
    cells: dict[tuple[str, ...], str] = {}
    rows = [row for row in one["comparison"]["heads"] if "missing" not in row["auroc"]]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = sorted(
            (row for row in rows if row["metric"] == metric),
            key=lambda row: float(row["auroc"]["estimate"]),
        )
        apart = sum(not row["auroc"]["lower"] <= 0.5 <= row["auroc"]["upper"] for row in mine)
        cells[metric, "heads whose interval leaves .5 out"] = f"{apart} of {len(mine)}"
        for name, row in (("highest", mine[-1]), ("lowest", mine[0])):
            cells[metric, name] = (
                f"{format_interval(row['auroc'])}, head {row['head']} of layer {row['layer']}"
            )
    return cells


def _prompt_side(one: Reproduction) -> Cells:
    return {
        (row["metric"], str(row["layer"])): (
            f"{format_interval(row['auroc'])}; {format_interval(row['r'], signed=True)}"
        )
        for row in sorted(
            one["comparison"]["prompt_side"], key=lambda row: (row["metric"], row["layer"])
        )
    }


def _signals(one: Reproduction) -> Cells:
    return {
        (pool, name): (
            f"{format_interval(row['auroc'])}; "
            f"{format_interval(row['point_biserial'], signed=True)}{_bounds(row['fisher'])}"
        )
        for pool, content in one["comparison"]["signals"].items()
        for name, row in content.get("signals", {}).items()
    }


def _against(one: Reproduction) -> Cells:
    return {
        (name,): format_interval(row["auroc_above_token_confidence"], signed=True)
        for name, row in one["signals"].items()
        if "auroc_above_token_confidence" in row
    }


def _probe_layers(one: Reproduction) -> Cells:
    rows = sorted(one["probe_per_layer"], key=lambda row: (row["position"], row["layer"]))
    return {(row["position"], str(row["layer"])): format_interval(row["auroc"]) for row in rows}


def _margins(one: Reproduction) -> Cells:
    return {
        (row["pool"], str(row["layer"])): format_interval(row["auroc"])
        for row in one["comparison"]["margins"]
    }


def _evidence(one: Reproduction) -> Cells:
    return {
        (row["pool"], row["masking"]): (
            f"{format_interval(row['logprob_drop']['auroc'])}; "
            f"{format_interval(row['share_flipped'], percent=True)}"
        )
        for row in one["comparison"]["evidence"]
    }


def _masking(one: Reproduction) -> Cells:
    return {
        (row["kind"], row["before"], row["after"]): (
            f"{row['lost']['before']:.1%} to {row['lost']['after']:.1%}; {_lost(row['lost'])}"
        )
        for row in one["comparison"]["masking"]
    }


def _ablation(one: Reproduction) -> Cells:
    rows = one["comparison"]["ablation"]
    if not isinstance(rows, list):
        return {("-", "-"): f"missing: {rows['missing']}"}
    return {
        (str(row["neurons"]), row["held"]): (
            f"top {_lost(row['top'])}; random {_points(row['random'])}, "
            f"{100 * row['random_least']:.1f} to {100 * row['random_most']:.1f}; "
            f"more by {_points(row['top_above_random'])}"
        )
        for row in rows
    }


def _controls(one: Reproduction) -> Cells:
    return {
        (row["what"],): (
            f"{format_interval(row['auroc'])}; {format_interval(row['probe_above'], signed=True)}"
        )
        for row in one["controls"].values()
    }


def _accuracy(one: Reproduction) -> Cells:
    return {
        (kind,): f"{format_interval(row['accuracy'], percent=True)} of {row['answers']}; always "
        f"{row['majority_answer']!r}: {row['majority_rate']:.1%}"
        for kind, row in one["accuracy"].items()
    }


def _fingerprints(one: Reproduction) -> Cells:
    return {
        ("model",): f"`{one['model']['revision'][:12]}`",
        ("dataset",): f"`{one['fingerprints']['dataset'][:12]}`",
        ("store",): f"`{one['fingerprints']['store'][:12]}`",
    }


def _lost(lost: Mapping[str, Any]) -> str:
    """Points of accuracy lost, and McNemar's p."""
    if "missing" in lost:
        return f"missing: {lost['missing']}"
    p = "p < 0.001" if lost["p_value"] < 0.001 else f"p = {lost['p_value']:.3f}"
    return f"{_points(lost['drop'])}, {p}"


def _points(value: Mapping[str, Any]) -> str:
    if "missing" in value:
        return f"missing: {value['missing']}"
    low, middle, high = (100 * value[name] for name in ("lower", "estimate", "upper"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"
