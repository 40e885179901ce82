"""What a dashboard is made of here, and whether its panels have data in a Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

JOB = 'job=~"$job"'
"""Every query selects the job that the dashboard's variable names."""
RATE = "$__rate_interval"
Series = list[dict[str, Any]]
Ask = Callable[..., Series]
"""(expression, start=, end=, step=) to Prometheus' series."""


@dataclass(frozen=True)
class Query:
    """One expression in PromQL, with how its series are called (``{{label}}``)."""

    expr: str
    legend: str
    exemplar: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture.

    Args:
        unit: Grafana's name of it: ``percentunit``, ``s``, ``reqps``, ``none``, ...
        span: width, of 24.
        stacked: lines are areas, one on the other.
        limit: where a red line is drawn.
        most: upper end of the axis.
        without_data: why a service without vLLM or a GPU has none; empty where it must have some.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "none"
    kind: Literal["lines", "number", "heatmap", "states"] = "lines"
    description: str = ""
    span: int = 8
    stacked: bool = False
    limit: float | None = None
    most: float | None = None
    without_data: str = ""


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; ``name`` is its file's and its uid's."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


def fill_in(expr: str, factor: float) -> str:
    """The expression as Grafana sends it, for a scrape interval of 15 s times the factor."""
    seconds = max(round(60 * factor), 4)  # four scrapes, as Grafana counts
    return expr.replace("$job", ".*").replace(RATE, f"{seconds}s")


def read_range(ask: Ask, query: Query, began: float, factor: float) -> Series:
    """All series of a query from ``began`` (Unix time) until now."""
    now = time.time()
    step = max((now - began) / 300, 1.0)
    return ask(fill_in(query.expr, factor), start=began, end=now, step=f"{step:.0f}s")


def data_of_panels(ask: Ask, began: float, factor: float) -> tuple[list[str], Mapping[str, str]]:
    """Queries without any number since ``began``; panels that were left out, with the reason."""
    from deploy.grafana.boards import BOARDS

    empty: list[str] = []
    excluded: dict[str, str] = {}
    for board in BOARDS:
        for panel in board.panels:
            if panel.without_data:
                excluded[panel.title] = panel.without_data
                continue
            for query in panel.queries:
                series = read_range(ask, query, began, factor)
                numbers = (float(v) for one in series for _, v in one["values"])
                if not any(map(math.isfinite, numbers)):
                    empty.append(f"{panel.title}: {query.expr}")
    return empty, excluded
