"""Wrong values are refused by name, before anything reaches the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm"
SHA = "0" * 64

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"replicas": "three"}, "at '/replicas': got string, want integer"),
    ({"image": {"digest": "sha256:short"}}, "at '/image/digest'"),
    ({"image": {"pullPolicy": "Sometimes"}}, "'Always', 'IfNotPresent', 'Never'"),
    ({"settings": {"VLM_GATE_MODE": "shadow"}}, "'VLM_GATE_MODE' does not match pattern"),
    ({"settings": {"mode": "watch"}}, "must be one of 'enforce', 'shadow'"),
    ({"settings": {"audit_rate": 2}}, "at '/settings/audit_rate': maximum: got 2, want 1"),
    ({"records": {"database": "mysql"}}, "'sqlite', 'postgresql', 'none'"),
    ({"records": {"database": "postgresql"}}, "at '/records/url/secret'"),
    ({"model": {"url": "s3://models/one"}}, "at '/model/sha256'"),
    ({"model": {"url": "s3://models/one", "sha256": SHA, "claim": "b"}}, "at '/model/claim'"),
    ({"bundle": {"image": "registry.example/site:latest"}}, "at '/bundle/image'"),
    ({"gpu": {"count": -1}}, "at '/gpu/count': minimum: got -1, want 0"),
    ({"autoscaling": {"enabled": True}}, "at '/autoscaling/prometheus'"),
    ({"ingress": {"enabled": True}}, "at '/ingress/host'"),
    ({"disruptionBudget": {"maxUnavailable": 0}}, "at '/disruptionBudget/maxUnavailable'"),
    ({"service": {"port": 70000}}, "at '/service/port': maximum: got 70,000, want 65,535"),
    ({"secretEnvironment": {"HF_TOKEN": "hf_abc"}}, "at '/secretEnvironment/HF_TOKEN'"),
]

APART: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "sqlite serves one replica"),
    (
        {"records": {"database": "postgresql", "url": {"secret": "db"}}},
        "records.identity.secret: replicas need the same signing key",
    ),
    ({"allowUnauthenticated": False}, "apiKeys.secret: nobody could call"),
    ({"settings": {"port": 80}}, "settings.port: the chart sets it itself"),
    ({"settings": {"model": "a/b"}, "model": {"claim": "c"}}, "leave one of both out"),
    ({"gpu": {"count": 2}}, "sharedMemory: several GPUs"),
]
"""Each fits the schema; together they do not."""


@pytest.mark.parametrize(("values", "told"), WRONG + APART, ids=lambda case: str(case)[:50])
def test_it_says_what_is_wrong_and_where(template, values, told) -> None:
    refused = template({"allowUnauthenticated": True, **values})
    assert refused.returncode != 0
    assert told in refused.stderr


def leaves(values: dict[str, Any], schema: dict[str, Any], at: str = "") -> set[str]:
    """Keys of values.yaml, each of which the schema must have and none more."""
    found = set()
    known = schema["properties"]
    if schema.get("additionalProperties") is False:
        assert set(values) == set(known) - {"global", "claims"}, at
    for name, value in values.items():
        found.add(f"{at}{name}")
        if isinstance(value, dict) and value and "properties" in known[name]:
            found |= leaves(value, known[name], f"{at}{name}.")
    return found


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert len(leaves(values, schema)) > 60
