"""The dashboards' JSON is what the code makes, and Grafana is told where it lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy.grafana.boards import BOARDS
from deploy.grafana.build import FOLDER, RUNBOOKS, build

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_json_is_up_to_date(board):
    """If not: python -m deploy.grafana.build."""
    assert (FOLDER / f"{board.name}.json").read_text(encoding="utf-8") == build(board)


def test_there_is_no_other_json():
    assert {path.stem for path in FOLDER.iterdir()} == {board.name for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_panel_asks_for_the_chosen_job_of_the_chosen_prometheus(board):
    panels = [
        p for p in json.loads(build(board))["panels"] if p["type"] not in ("row", "alertGroups")
    ]
    assert len(panels) == len(list(board.panels))
    for panel, spec in zip(panels, board.panels, strict=True):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len(panel["targets"]) == len(spec.queries)
        for target in panel["targets"]:
            ours = "ALERTS" not in target["expr"] and not spec.without_data
            assert not ours or 'job=~"$job"' in target["expr"], target["expr"]


def test_only_panels_of_others_metrics_may_be_without_data():
    for board in BOARDS:
        for panel in board.panels:
            foreign = all(q.expr.count("vllm:") or "DCGM_" in q.expr for q in panel.queries)
            assert bool(panel.without_data) == foreign, panel.title


def test_the_runbooks_address_is_the_rules(alerts):
    for rule in alerts.values():
        assert rule["annotations"]["runbook_url"].startswith(RUNBOOKS)


def test_what_is_provisioned_is_there():
    providers = yaml.safe_load((PROVISIONING / "dashboards" / "vlm-gate.yaml").read_text())
    (provider,) = providers["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    sources = yaml.safe_load((PROVISIONING / "datasources" / "vlm-gate.yaml").read_text())
    found = {source["uid"]: source["type"] for source in sources["datasources"]}
    assert found == {"prometheus": "prometheus", "alertmanager": "alertmanager", "tempo": "tempo"}
    (prometheus,) = (s for s in sources["datasources"] if s["uid"] == "prometheus")
    assert prometheus["jsonData"]["exemplarTraceIdDestinations"] == [
        {"name": "trace_id", "datasourceUid": "tempo"}
    ]
