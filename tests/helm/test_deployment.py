"""templates/deployment.yaml and its volumes."""

from __future__ import annotations

import pytest

SHA = "ab" * 32


def volumes(found) -> dict:
    return {one["name"]: one for one in found.pod["volumes"]}


def mounts(found) -> dict:
    return {one["name"]: one["mountPath"] for one in found.container["volumeMounts"]}


def test_by_default_one_replica_of_the_embedded_model(render) -> None:
    found = render()
    assert found.one("Deployment")["spec"]["replicas"] == 1
    assert found.container["image"] == "vlm-gate:0.1.0"
    assert found.container["args"] == ["serve"]
    assert "initContainers" not in found.pod
    assert not {"VLM_GATE_MODEL", "VLM_GATE_BUNDLE"} & set(found.settings)
    assert set(volumes(found)) == {"tmp", "state", "cache"}
    assert found.pod["enableServiceLinks"] is False  # VLM_GATE_PORT=tcp://... would stop the start


def test_the_digest_wins_over_the_tag(render) -> None:
    image = {"repository": "registry.example/gate", "tag": "1", "digest": f"sha256:{SHA}"}
    assert render({"image": image}).container["image"] == f"registry.example/gate@sha256:{SHA}"


def test_gpus_are_asked_for_as_requests_and_limits(render) -> None:
    found = render({"gpu": {"count": 4}, "sharedMemory": "8Gi"})
    resources = found.container["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "4"
    assert resources["requests"]["cpu"] == "1"
    assert volumes(found)["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert mounts(found)["shared-memory"] == "/dev/shm"


def test_it_goes_where_it_is_sent(render) -> None:
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    found = render(
        {
            "nodeSelector": {"gpu": "h100"},
            "tolerations": tolerations,
            "priorityClass": "line",
            "runtimeClass": "nvidia",
        }
    )
    assert found.pod["nodeSelector"] == {"gpu": "h100"}
    assert found.pod["tolerations"] == tolerations
    assert found.pod["priorityClassName"] == "line"
    assert found.pod["runtimeClassName"] == "nvidia"


def test_replicas_are_spread_over_nodes_and_zones(render) -> None:
    found = render()
    spread = found.pod["topologySpreadConstraints"]
    selector = found.one("Deployment")["spec"]["selector"]
    assert [one["topologyKey"] for one in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert all(one["labelSelector"] == selector for one in spread)
    assert "topologySpreadConstraints" not in render({"topologySpread": False}).pod


def test_the_startup_probe_waits_for_the_model(render) -> None:
    container = render({"probes": {"startupSeconds": 1801}}).container
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1801
    assert startup["httpGet"]["path"] == container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    deployment = render({"probes": {"startupSeconds": 1801}}).one("Deployment")
    assert deployment["spec"]["progressDeadlineSeconds"] > 1801


def test_there_is_time_to_leave(render) -> None:
    values = {
        "shutdown": {"preStopSeconds": 7, "drainSeconds": 9},
        "settings": {"deadline_seconds": 20.5},
    }
    found = render(values)
    assert found.container["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    assert found.settings["VLM_GATE_DRAIN_SECONDS"] == "9"
    assert found.settings["VLM_GATE_DEADLINE_SECONDS"] == "20.5"
    assert found.pod["terminationGracePeriodSeconds"] > 7 + 9 + 20.5


@pytest.mark.parametrize(
    ("database", "strategy"), [("sqlite", "Recreate"), ("none", "RollingUpdate")]
)
def test_sqlite_is_never_held_by_two(render, database, strategy) -> None:
    found = render({"records": {"database": database}})
    assert found.one("Deployment")["spec"]["strategy"]["type"] == strategy


def test_secrets_are_only_named(render) -> None:
    found = render(
        {
            "apiKeys": {"secret": "keys"},
            "records": {
                "database": "postgresql",
                "url": {"secret": "database"},
                "identity": {"secret": "identity"},
            },
            "secretEnvironment": {"HF_TOKEN": {"secret": "hub", "key": "token"}},
        }
    )
    environment = {one["name"]: one for one in found.container["env"]}
    assert environment["VLM_GATE_RECORDS_URL"]["valueFrom"] == {
        "secretKeyRef": {"name": "database", "key": "url"}
    }
    assert environment["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}
    assert volumes(found)["keys"]["secret"]["secretName"] == "keys"
    assert found.settings["VLM_GATE_API_KEYS_FILE"] == f"{mounts(found)['keys']}/keys.json"
    assert found.settings["VLM_GATE_RECORDS_KEY_FILE"] == "/secrets/identity/signing-key.pem"
    assert found.settings["VLM_GATE_AUDIT_SECRET_FILE"] == "/secrets/identity/audit-secret"


def test_a_model_on_a_claim_and_a_bundle_in_an_image(render) -> None:
    image = f"registry.example/site@sha256:{SHA}"
    found = render({"model": {"claim": "models", "folder": "llava"}, "bundle": {"image": image}})
    assert found.settings["VLM_GATE_MODEL"] == "/model/llava"
    assert found.settings["VLM_GATE_BUNDLE"] == "/bundle"
    assert volumes(found)["model"]["persistentVolumeClaim"] == {
        "claimName": "models",
        "readOnly": True,
    }
    assert volumes(found)["bundle"]["image"]["reference"] == image
    assert mounts(found)["model"] == "/model"


def test_a_model_by_url_is_fetched_and_checked_before_the_start(render) -> None:
    found = render({"model": {"url": "s3://models/one", "sha256": SHA}, "cache": {"size": "40Gi"}})
    (fetch,) = found.pod["initContainers"]
    out = f"/cache/model-{SHA[:12]}"
    assert fetch["args"] == ["fetch", "s3://models/one", f"--out={out}", f"--sha256={SHA}"]
    assert found.settings["VLM_GATE_MODEL"] == out
    assert volumes(found)["cache"]["persistentVolumeClaim"] == {"claimName": "gate-vlm-gate-cache"}


def test_settings_are_written_as_the_service_reads_them(render) -> None:
    settings = {
        "max_pixels": 25_000_000,
        "audit_rate": 0.02,
        "deadline_seconds": 20.5,
        "records_keep_question": True,
        "cors_origins": "https://review.example",
    }
    written = render({"settings": settings}).settings
    assert written["VLM_GATE_MAX_PIXELS"] == "25000000"
    assert written["VLM_GATE_AUDIT_RATE"] == "0.02"
    assert written["VLM_GATE_DEADLINE_SECONDS"] == "20.5"
    assert written["VLM_GATE_RECORDS_KEEP_QUESTION"] == "true"
    assert written["VLM_GATE_CORS_ORIGINS"] == "https://review.example"


def test_changed_settings_start_the_pods_anew(render) -> None:
    def checksum(values) -> str:
        template = render(values).one("Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/settings"]

    assert checksum({}) == checksum({})
    assert checksum({}) != checksum({"settings": {"mode": "shadow"}})
