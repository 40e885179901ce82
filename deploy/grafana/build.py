"""Write the dashboards as Grafana reads them: ``python -m deploy.grafana.build``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders import (
    alertgroups,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphTresholdsStyleMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import Board, Panel

FOLDER = Path(__file__).parent / "dashboards"
RUNBOOKS = "https://vlm-gate.example/runbooks/"
"""As in the rules: a placeholder for where deploy/runbooks/ is published."""
SOURCE = DataSourceRef("prometheus", "${datasource}")
HEIGHT = {"number": 4, "lines": 8, "heatmap": 8, "states": 8}
AnyPanel = timeseries.Panel | stat.Panel | heatmap.Panel | statetimeline.Panel


def build(board: Board) -> str:
    """The dashboard's JSON."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.name)
        .description(board.description)
        .tags(["vlm-gate"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Job")
            .datasource(SOURCE)
            .query("label_values(vlm_gate_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
        .link(
            dashboard.DashboardLink("vlm-gate")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["vlm-gate"])
            .keep_time(True)
            .include_vars(True)
        )
        .link(
            dashboard.DashboardLink("Runbooks")
            .type(DashboardLinkType.LINK)
            .url(RUNBOOKS)
            .target_blank(True)
        )
    )
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(MAKERS[panel.kind](panel))
    if board.name == "vlm-gate-risk":
        made = made.with_row(dashboard.Row("Alerts")).with_panel(_alerts())
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _common(made: AnyPanel, panel: Panel) -> None:
    made.title(panel.title).datasource(SOURCE).span(panel.span).height(HEIGHT[panel.kind])
    why = f"Optional: {panel.without_data}." if panel.without_data else ""
    text = " ".join(filter(None, (panel.description, why)))
    if text:
        made.description(text)
    for number, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + number))
            .expr(query.expr)
            .legend_format(query.legend)
        )
        if query.exemplar:
            target = target.exemplar(True)
        if panel.kind == "heatmap":
            target = target.format(PromQueryFormat.HEATMAP)
        made.with_target(target)


def _lines(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().unit(panel.unit).min(0)
    _common(made, panel)
    if panel.most is not None:
        made = made.max(panel.most)
    if panel.stacked:
        stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
        made = made.stacking(stacking).fill_opacity(40)
    if panel.limit is not None:
        made = made.thresholds(
            dashboard.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(None, "green"), Threshold(panel.limit, "red")])
        ).thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    return made


def _number(panel: Panel) -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().unit(panel.unit).reduce_options(last)
    _common(made, panel)
    return made


def _heatmap(panel: Panel) -> heatmap.Panel:
    made = heatmap.Panel().unit(panel.unit).calculate(False)
    _common(made, panel)
    return made


def _states(panel: Panel) -> statetimeline.Panel:
    made = statetimeline.Panel()
    _common(made, panel)
    return made


def _alerts() -> alertgroups.Panel:
    """What Alertmanager has now, grouped; each alert links to its runbook by its annotation."""
    return (
        alertgroups.Panel()
        .title("Alerts")
        .datasource(DataSourceRef("alertmanager", "alertmanager"))
        .alertmanager("alertmanager")
        .expand_all(True)
        .span(24)
        .height(8)
    )


MAKERS: dict[str, Callable[[Panel], AnyPanel]] = {
    "lines": _lines,
    "number": _number,
    "heatmap": _heatmap,
    "states": _states,
}


def main() -> None:
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(build(board), encoding="utf-8")


if __name__ == "__main__":
    main()
