"""deploy/compose.yaml: what Compose takes, with the files that run without containers too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from compose_spec import ComposeSpecification

from service.settings import PREFIX, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_it_is_what_compose_takes() -> None:
    read = ComposeSpecification.model_validate(COMPOSE)
    assert set(read.services or {}) == {
        "network",
        "vlm-gate",
        "postgresql",
        "prometheus",
        "alertmanager",
        "grafana",
        "collector",
    }


def test_every_file_and_volume_that_it_mounts_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_dir(), source
                assert volume.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]


def test_prometheus_finds_the_rules_of_the_repository() -> None:
    mounts = dict(
        volume.split(":")[1::-1] for volume in SERVICES["prometheus"]["volumes"] if ":" in volume
    )
    config = next(
        word.partition("=")[2]
        for word in SERVICES["prometheus"]["command"]
        if word.startswith("--config.file=")
    )
    inside = Path(config).parent
    assert (DEPLOY / mounts[str(inside)] / Path(config).name).is_file()
    (rules,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["rule_files"]
    folder, pattern = rules.rsplit("/", 1)
    resolved = (inside / folder).as_posix()
    parts: list[str] = []
    for part in Path(resolved).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    assert list((DEPLOY / mounts[str(Path(*parts))]).glob(pattern))


def test_only_this_host_reaches_it_and_only_where_something_listens() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert SERVICES["network"]["ports"] == ports  # the others share its network
    targets = {port.rsplit(":", 1)[1] for port in ports}
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    gate = scraped["scrape_configs"][0]["static_configs"][0]["targets"][0]
    alerts = scraped["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0]
    assert {gate, alerts} <= {f"127.0.0.1:{target}" for target in targets}


def test_containers_can_do_little() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), name


def test_the_settings_exist_and_no_secret_is_written_down() -> None:
    environment = SERVICES["vlm-gate"]["environment"]
    own = [name for name in environment if name.startswith(PREFIX)]
    assert own
    assert {name.removeprefix(PREFIX).lower() for name in own} <= set(Settings.model_fields)
    assert "${POSTGRES_PASSWORD:?" in environment["VLM_GATE_RECORDS_URL"]


def test_traces_go_where_the_collector_listens() -> None:
    collector = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    listens = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    named = SERVICES["vlm-gate"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert named == f"http://{listens}"
    pipeline = collector["service"]["pipelines"]["traces"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) <= set(collector[kind])
