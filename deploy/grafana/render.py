"""The dashboards as pictures, drawn from a live Prometheus by the same queries.

python -m deploy.grafana.render --prometheus http://127.0.0.1:9090 --minutes 60 --out docs/images
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import Ask, Board, Panel, Series, read_range

WIDE, COLUMNS = 15.0, 24
HEIGHT = {"number": 0.6, "lines": 2.3, "heatmap": 2.3, "states": 2.3}
GAP, HEADING, TOP, FOOT = 0.62, 0.34, 0.5, 0.1
DPI = 80
MOST_SERIES = 12
Marks = Sequence[tuple[float, str]]
"""Unix time and a word: drawn as a line through every panel."""
mpl.use("Agg")


def render_all(
    ask: Ask, began: float, factor: float, folder: Path, marks: Marks = ()
) -> list[Path]:
    """One PNG per dashboard, of everything since ``began``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for board in BOARDS:
        figure = _draw(board, ask, began, factor, marks)
        written.append(folder / f"{board.name}.png")
        figure.savefig(written[-1], dpi=DPI)
    return written


def _lines_of(board: Board) -> list[tuple[str | None, list[Panel]]]:
    """Panels in lines of 24 columns, each row's heading before its first line."""
    lines: list[tuple[str | None, list[Panel]]] = []
    for row in board.rows:
        heading: str | None = row.title
        room = 0
        for panel in (panel for panel in row.panels if not panel.without_data):
            if panel.span > room:
                lines.append((heading, []))
                heading, room = None, COLUMNS
            lines[-1][1].append(panel)
            room -= panel.span
    return lines


def _draw(board: Board, ask: Ask, began: float, factor: float, marks: Marks) -> Figure:
    lines = _lines_of(board)
    heights = [HEIGHT[panels[0].kind] + GAP + HEADING * bool(head) for head, panels in lines]
    tall = sum(heights) + TOP + FOOT
    figure = Figure(figsize=(WIDE, tall), facecolor="white")
    figure.text(0.02, 1 - 0.3 / tall, board.title, fontsize=15, weight="bold", va="center")
    top = tall - TOP
    for (heading, panels), height in zip(lines, heights, strict=True):
        if heading:
            figure.text(0.02, (top - 0.22) / tall, heading, fontsize=12, color="#1f4e79")
        column = 0
        for panel in panels:
            left = (column + 0.9) / (COLUMNS + 0.4)
            low = (top - height + GAP * 0.55) / tall
            size = ((panel.span - 1.3) / (COLUMNS + 0.4), HEIGHT[panel.kind] / tall)
            axes = figure.add_axes((left, low, *size))
            _draw_panel(axes, panel, ask, began, factor, marks)
            column += panel.span
        top -= height
    return figure


def _draw_panel(
    axes: Axes, panel: Panel, ask: Ask, began: float, factor: float, marks: Marks
) -> None:
    found = [
        (query.legend, read_range(ask, query, began, factor)) for query in panel.queries
    ]  # fmt: skip
    axes.set_title(panel.title, fontsize=9.5, loc="left")
    axes.tick_params(labelsize=7.5)
    if panel.kind == "number":
        _draw_number(axes, panel, found[0][1])
        return
    if panel.kind == "heatmap":
        _draw_heatmap(axes, found[0][1], began)
    elif panel.kind == "states":
        _draw_states(axes, found[0], began)
    else:
        _draw_lines(axes, panel, found, began)
    for at, _ in marks:
        axes.axvline((at - began) / 60, color="#888888", lw=0.7, ls=":")
    axes.set_xlim(0, (time.time() - began) / 60)
    axes.set_xlabel("minutes", fontsize=7, labelpad=1)


def _draw_lines(axes: Axes, panel: Panel, found: list[tuple[str, Series]], began: float) -> None:
    drawn = [
        (_name(legend, one["metric"]), one["values"]) for legend, all_ in found for one in all_
    ]
    drawn = drawn[:MOST_SERIES]
    if panel.stacked:
        _stack(axes, drawn, began)
    else:
        for name, values in drawn:
            minutes, numbers = _points(values, began)
            axes.plot(minutes, numbers, lw=1.4, label=name)
    axes.grid(alpha=0.25)
    axes.set_ylim(bottom=0, top=panel.most or 1.3 * axes.get_ylim()[1])  # room for the legend
    if panel.limit is not None:
        axes.axhline(panel.limit, color="#cc0000", lw=1, ls="--")
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    elif panel.unit == "bytes":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 2**20:.0f} MiB"))
    elif panel.unit == "s":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} s"))
    elif panel.unit == "reqps":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}/s"))
    if drawn:
        small = panel.span < 12
        axes.legend(
            fontsize=6.5 if small else 7.5,
            loc="upper left" if panel.stacked else "best",
            framealpha=0.7,
            ncols=1 if small and len(drawn) < 5 else 2,
        )


def _stack(axes: Axes, drawn: list[tuple[str, list[Any]]], began: float) -> None:
    """Areas on one another; a series without a sample counts as 0 then."""
    times = sorted({at for _, values in drawn for at, _ in values})
    if len(times) < 2:
        return
    step = min(np.diff(times))
    grid = np.arange(times[0], times[-1] + step / 2, step)
    rows = []
    for _, values in drawn:
        known = {round((at - times[0]) / step): float(value) for at, value in values}
        found = [known.get(place, 0.0) for place in range(len(grid))]
        rows.append([number if math.isfinite(number) else 0.0 for number in found])
    minutes = (grid - began) / 60
    axes.stackplot(minutes, rows, labels=[name for name, _ in drawn], alpha=0.75, step="post")


def _draw_states(axes: Axes, found: tuple[str, Series], began: float) -> None:
    """A bar per series, for as long as it is there."""
    legend, series = found
    ordered = sorted(series, key=lambda one: -float(one["values"][0][0]))
    names = [_name(legend, one["metric"]).removeprefix("VlmGate") for one in ordered]
    for row, one in enumerate(ordered):
        minutes, numbers = _points(one["values"], began)
        pieces = np.split(np.array(minutes), np.flatnonzero(np.isnan(numbers)))
        bars = [(piece[0], max(piece[-1] - piece[0], 0.02)) for piece in pieces if len(piece)]
        axes.broken_barh(bars, (row - 0.35, 0.7), color="#cc0000", alpha=0.75)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.tick_params(axis="y", direction="in", pad=-4)
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")


def _draw_heatmap(axes: Axes, series: Series, began: float) -> None:
    """Share of answers per bucket and time; rows are buckets, not to scale."""
    ordered = sorted(series, key=lambda one: float(one["metric"]["le"]))
    times = sorted({at for one in ordered for at, _ in one["values"]})
    counts = np.zeros((len(ordered), len(times)))
    place = {at: number for number, at in enumerate(times)}
    for row, one in enumerate(ordered):
        for at, value in one["values"]:
            counts[row, place[at]] = float(value)
    shares = np.diff(counts, axis=0, prepend=0)
    total = np.maximum(counts.max(axis=0, initial=0), 1e-9)
    minutes = [(at - began) / 60 for at in times]
    edges = range(len(ordered) + 1)
    width = minutes[1] - minutes[0] if len(minutes) > 1 else 1.0
    axes.pcolormesh([*minutes, minutes[-1] + width], edges, shares / total, cmap="YlOrRd", vmin=0)
    labels = [float(one["metric"]["le"]) for one in ordered]
    shown = range(0, len(labels), 2)
    axes.set_yticks([number + 1 for number in shown], [f"{labels[number]:.2g}" for number in shown])


def _draw_number(axes: Axes, panel: Panel, series: Series) -> None:
    axes.set_axis_off()
    value = float(series[0]["values"][-1][1]) if series else math.nan
    text = "no data now" if math.isnan(value) else f"{value:.3g}"
    if panel.unit == "percentunit" and not math.isnan(value):
        text = f"{value:.1%}"
    elif panel.unit == "s" and not math.isnan(value):
        text = f"{value / 86400:.0f} days"
    axes.text(0.0, 0.35, text, fontsize=18, color="#1f4e79", transform=axes.transAxes)


def _points(values: list[Any], began: float) -> tuple[list[float], list[float]]:
    """Minutes and numbers; NaN breaks the line where samples are missing."""
    steps = np.diff([at for at, _ in values])
    usual = float(np.median(steps)) if len(steps) else 0.0
    minutes: list[float] = []
    numbers: list[float] = []
    for at, value in values:
        if minutes and at - (60 * minutes[-1] + began) > 1.5 * usual:
            minutes.append((at - began) / 60)
            numbers.append(math.nan)
        minutes.append((at - began) / 60)
        numbers.append(float(value))
    return minutes, numbers


def _name(legend: str, labels: dict[str, str]) -> str:
    for key, value in labels.items():
        shown = "" if key == "instance" else value
        legend = legend.replace(f"{{{{{key}}}}}", shown)
    return re.sub(r"{{.*}}", "none", legend).strip() or "gate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()

    def ask(expression: str, **range_: float | str) -> Series:
        url = f"{options.prometheus}/api/v1/query_range"
        reply = httpx.get(url, params={"query": expression, **range_}, timeout=30)
        reply.raise_for_status()
        found: Series = reply.json()["data"]["result"]
        return found

    for path in render_all(ask, time.time() - 60 * options.minutes, 1.0, options.out):
        print(path)


if __name__ == "__main__":
    main()
