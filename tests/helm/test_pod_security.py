"""Pod Security "restricted", control by control, for every pod of every example.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: dict[str, Any]) -> list[str]:
    """What the standard forbids in a pod's specification."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if len(kinds) != 1 or not kinds <= VOLUMES:
            found.append(f"volume {volume['name']}")
    whole = pod.get("securityContext", {})
    if whole.get("sysctls"):
        found.append("sysctls")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        held = {**whole, **own}
        capabilities = own.get("capabilities", {})
        checks = {
            "privileged": own.get("privileged", False) is False,
            "privilege escalation": own.get("allowPrivilegeEscalation") is False,
            "runs as root": held.get("runAsNonRoot") is True and held.get("runAsUser") != 0,
            "seccomp": held.get("seccompProfile", {}).get("type")
            in {"RuntimeDefault", "Localhost"},
            "capabilities": capabilities.get("drop") == ["ALL"]
            and set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            # Beyond the standard: what the image promises.
            "writable root": own.get("readOnlyRootFilesystem") is True,
        }
        found += [f"{container['name']}: {name}" for name, held_to in checks.items() if not held_to]
    return found


def test_every_pod_is_restricted(example) -> None:
    pods = example.pods()
    assert len(pods) >= 2  # the service and the test
    assert [violations(pod) for pod in pods] == [[]] * len(pods)
    assert all(pod["automountServiceAccountToken"] is False for pod in pods)


def test_the_job_that_collects_is_restricted() -> None:
    job = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "collect-job.yaml").read_text())
    assert violations(job["spec"]["template"]["spec"]) == []


def test_the_check_itself_finds_what_is_forbidden() -> None:
    bad = {
        "hostNetwork": True,
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        "containers": [{"name": "one", "securityContext": {"privileged": True}}],
    }
    found = violations(bad)
    for name in ("hostNetwork", "volume host", "one: privileged", "one: runs as root"):
        assert name in found
    assert {"one: seccomp", "one: capabilities", "one: privilege escalation"} <= set(found)
