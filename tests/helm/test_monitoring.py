"""What the chart tells Prometheus and Grafana is what the repository holds, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ON = {"monitoring": {"serviceMonitor": True, "rules": True, "dashboards": True}}


def test_nothing_of_it_by_default(render) -> None:
    found = render()
    assert found.kinds("ServiceMonitor") == found.kinds("PrometheusRule") == []
    assert len(found.kinds("ConfigMap")) == 1


def test_every_replica_is_scraped(render) -> None:
    found = render({"monitoring": {"serviceMonitor": True, "labels": {"release": "prometheus"}}})
    monitor = found.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    labels = found.one("Service")["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    (endpoint,) = monitor["spec"]["endpoints"]
    ports = {port["name"]: port for port in found.one("Service")["spec"]["ports"]}
    assert found.settings["VLM_GATE_METRICS_PORT"] == str(ports[endpoint["port"]]["port"])


def test_the_job_is_called_as_the_rules_say(render) -> None:
    found = render({"monitoring": {"serviceMonitor": True}})
    label = found.one("ServiceMonitor")["spec"]["jobLabel"]
    job = found.one("Service")["metadata"]["labels"][label]
    rules = (ROOT / "helm" / "rules" / "alerts.yaml").read_text()
    assert f'job="{job}"' in rules


def test_the_rules_are_those_of_the_repository(render) -> None:
    files = sorted((ROOT / "helm" / "rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert len(groups) >= 1
    assert render(ON).one("PrometheusRule")["spec"]["groups"] == groups


def test_the_dashboards_are_those_of_the_repository(render) -> None:
    files = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    assert len(files) >= 1
    shown = {
        name: text
        for one in render(ON).kinds("ConfigMap")
        if one["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in one["data"].items()
    }
    assert set(shown) == {file.name for file in files}
    for file in files:
        assert json.loads(shown[file.name]) == json.loads(file.read_text())
