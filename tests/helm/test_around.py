"""The small templates around the pods: claims, Service, Ingress, budget, Job, test, scaling."""

from __future__ import annotations

import shlex

import pytest
from typer.main import get_command

from service.cli import app

POSTGRESQL = {
    "database": "postgresql",
    "url": {"secret": "database"},
    "identity": {"secret": "identity"},
}


def test_claims_are_made_only_where_a_size_is_given(render) -> None:
    assert render().kinds("PersistentVolumeClaim") == []
    own = {"state": {"size": "5Gi", "storageClass": "fast"}, "cache": {"claim": "mine"}}
    claim = render(own).one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"


def test_the_service_selects_the_service_and_not_the_job(render) -> None:
    found = render({"records": POSTGRESQL})
    selector = found.one("Service")["spec"]["selector"].items()
    deployed = found.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert selector <= deployed
    assert found.one("Deployment")["spec"]["selector"]["matchLabels"].items() == selector
    assert not selector <= found.one("Job")["spec"]["template"]["metadata"]["labels"].items()
    assert not selector <= found.one("Pod")["metadata"]["labels"].items()
    named = {port["name"] for port in found.container["ports"]}
    assert {port["targetPort"] for port in found.one("Service")["spec"]["ports"]} == named


def test_the_ingress_ends_at_the_service(render) -> None:
    assert render().kinds("Ingress") == []
    values = {"enabled": True, "host": "gate.example.com", "tlsSecret": "tls", "className": "x"}
    spec = render({"ingress": values}).one("Ingress")["spec"]
    assert spec["tls"] == [{"hosts": ["gate.example.com"], "secretName": "tls"}]
    (path,) = spec["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gate-vlm-gate", "port": {"name": "http"}}


def test_at_most_one_is_taken_away_at_once(render) -> None:
    spec = render().one("PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1


def test_tables_are_migrated_before_an_upgrade_with_nothing_but_the_url(render) -> None:
    assert render().kinds("Job") == []
    assert render({"records": {**POSTGRESQL, "migrate": False}}).kinds("Job") == []
    job = render({"records": POSTGRESQL}).one("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod  # the release's does not exist yet
    (container,) = pod["containers"]
    assert [one["name"] for one in container["env"]] == ["VLM_GATE_RECORDS_URL"]
    records = get_command(app).commands[container["args"][0]]  # type: ignore[attr-defined]
    assert container["args"][1] in records.commands


def test_helm_test_asks_a_question(render) -> None:
    pod = render({"test": {"apiKey": {"secret": "key"}}}).one("Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    words = shlex.split(container["args"][0].splitlines()[1])
    assert words[:2] == ["vlm-gate", "ask"]
    assert words[-1] == "http://gate-vlm-gate:80"
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "key", "key": "api-key"}


def test_keda_scales_on_the_queue_and_nothing_else_sets_replicas(render) -> None:
    scaling = {"enabled": True, "prometheus": "http://prometheus:9090", "queueDepth": 5}
    found = render({"autoscaling": scaling, "records": POSTGRESQL})
    assert "replicas" not in found.one("Deployment")["spec"]
    spec = found.one("ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == found.one("Deployment")["metadata"]["name"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(vlm_gate_queue_depth{namespace="lines",service="gate-vlm-gate"})'
    )
    assert trigger["metadata"]["threshold"] == "5"
    assert render().kinds("ScaledObject") == []


@pytest.mark.parametrize(("release", "name"), [("gate", "gate-vlm-gate"), ("vlm-gate", "vlm-gate")])
def test_names_follow_the_release(helm, release, name) -> None:
    from pathlib import Path

    chart = Path(__file__).parents[2] / "helm"
    done = helm("template", release, chart, "--set=allowUnauthenticated=true")
    assert f"\n  name: {name}\n" in done.stdout
