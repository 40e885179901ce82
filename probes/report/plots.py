"""The report's plots as inline SVG that follows the page's light or dark scheme.

Text and axes are drawn in a placeholder colour that becomes ``currentColor``; curves use mid tones
that stand out on both backgrounds.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from probes.signals.catalogue import ATTENTION_SIGNS

PLACEHOLDER = "#010203"
COLOURS = ("#d1495b", "#2a9d8f", "#3d7ebf", "#e0923a", "#8f6bb8", "#7f8c8d")
STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "vlm-gate",
    "svg.fonttype": "none",
    "text.color": PLACEHOLDER,
    "axes.edgecolor": PLACEHOLDER,
    "axes.labelcolor": PLACEHOLDER,
    "xtick.color": PLACEHOLDER,
    "ytick.color": PLACEHOLDER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "font.size": 10,
}
CURVES = ("risk", "hidden_state_probe", "token_confidence", "self_consistency")


def draw_all(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Draw every plot that the evaluation has data for: title -> SVG."""
    plots: dict[str, Callable[[Axes, Mapping[str, Any]], None]] = {
        "Risk against coverage": _risk_coverage,
        "Reliability diagram": _reliability,
        "Probe per layer": _probe_layers,
        "Attention per layer (answer tokens)": _attention_layers,
        "Risk of accepted and other answers": _histogram,
    }
    if not evaluation["attention_per_layer"]:
        del plots["Attention per layer (answer tokens)"]
    for name in evaluation["curves"].get("attention", ()):
        title = f"{name.replace('_', ' ').capitalize()} of right and wrong answers"
        plots[title] = functools.partial(_attention, name=name)
    return {title: _draw(title, plot, evaluation) for title, plot in plots.items()}


def _draw(
    title: str, plot: Callable[[Axes, Mapping[str, Any]], None], evaluation: Mapping[str, Any]
) -> str:
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        plot(axes, evaluation)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        buffer = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Title": title})
    svg = buffer.getvalue().decode()
    return svg[svg.index("<svg") :].replace(PLACEHOLDER, "currentColor")


def _risk_coverage(axes: Axes, evaluation: Mapping[str, Any]) -> None:
    curves = evaluation["curves"]["risk_coverage"]
    names = [name for name in (*CURVES, "attention_spatial_entropy") if name in curves]
    for name, colour in zip(names, COLOURS, strict=False):
        curve = curves[name]
        axes.plot(curve["coverage"], curve["error_rate"], color=colour, label=name)
    axes.set(xlabel="coverage", ylabel="error rate among accepted", xlim=(0, 1), ylim=(0, None))


def _reliability(axes: Axes, evaluation: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color=PLACEHOLDER, linewidth=0.8, linestyle=":")
    for (name, bins), colour in zip(
        evaluation["curves"]["reliability"].items(), COLOURS, strict=False
    ):
        risks, wrong = [one["risk"] for one in bins], [one["wrong"] for one in bins]
        axes.plot(risks, wrong, marker="o", color=colour, label=name)
    axes.set(xlabel="mean risk", ylabel="share wrong", xlim=(0, 1), ylim=(0, 1))


def _probe_layers(axes: Axes, evaluation: Mapping[str, Any]) -> None:
    rows = evaluation["probe_per_layer"]
    positions = sorted({row["position"] for row in rows})
    for position, colour in zip(positions, COLOURS, strict=False):
        _layers(axes, [row for row in rows if row["position"] == position], position, colour)
    _name_layers(axes, rows)


def _attention_layers(axes: Axes, evaluation: Mapping[str, Any]) -> None:
    rows = [row for row in evaluation["attention_per_layer"] if row["position"] == "answer_mean"]
    metrics = sorted({row["metric"] for row in rows})
    for metric, colour in zip(metrics, COLOURS, strict=False):
        _layers(axes, [row for row in rows if row["metric"] == metric], metric, colour)
    axes.axhline(0.5, color=PLACEHOLDER, linewidth=0.8, linestyle=":")
    _name_layers(axes, rows)


def _name_layers(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    axes.set(xlabel="layer", ylabel="AUROC on the test split")
    axes.set_xticks(sorted({row["layer"] for row in rows}))
    axes.margins(y=0.25)  # room for the legend


def _layers(axes: Axes, rows: list[Mapping[str, Any]], label: str, colour: str) -> None:
    known = [row for row in rows if "missing" not in row["auroc"]]
    layers = [row["layer"] for row in known]
    middle = [row["auroc"]["estimate"] for row in known]
    below = [max(0.0, row["auroc"]["estimate"] - row["auroc"]["lower"]) for row in known]
    above = [max(0.0, row["auroc"]["upper"] - row["auroc"]["estimate"]) for row in known]
    axes.errorbar(
        layers, middle, yerr=[below, above], marker="o", capsize=2, color=colour, label=label
    )


def _histogram(axes: Axes, evaluation: Mapping[str, Any]) -> None:
    counts = evaluation["curves"]["risk_histogram"]
    floor = [0] * len(counts["accepted"])
    width = 1 / len(floor)
    edges = [index * width for index in range(len(floor))]
    for (name, values), colour in zip(counts.items(), (COLOURS[1], COLOURS[0]), strict=True):
        axes.bar(edges, values, width, bottom=floor, align="edge", color=colour, label=name)
        floor = [low + value for low, value in zip(floor, values, strict=True)]
    axes.set(xlabel="risk", ylabel="answers", xlim=(0, 1))


def _attention(axes: Axes, evaluation: Mapping[str, Any], *, name: str) -> None:
    shares = evaluation["curves"]["attention"][name]
    sign = ATTENTION_SIGNS[name.removeprefix("attention_")]
    edges = [sign * edge for edge in shares["edges"]]
    for part, colour in (("right", COLOURS[1]), ("wrong", COLOURS[0])):
        axes.stairs(shares[part], edges, color=colour, label=part, linewidth=1.5)
    axes.set(xlabel=name.removeprefix("attention_").replace("_", " "), ylabel="share of answers")
