"""Every example: linted, valid for Kubernetes and the CRDs, with settings that exist."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from typer.main import get_command

from service.cli import app
from service.settings import PREFIX, load_settings

VERSIONS = ("1.33", "1.34", "1.35", "1.36")
CUSTOM = {
    "ScaledObject": ScaledObject,
    "ServiceMonitor": ServiceMonitor,
    "PrometheusRule": PrometheusRule,
}
"""Models made from the CRDs of KEDA 2.16 and of the Prometheus operator 0.80."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _schemas_read_once() -> Any:
    """The library reads a megabyte of definitions for each object anew."""
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


def test_the_defaults_and_each_example_are_linted(helm) -> None:
    for path in (None, *sorted((ROOT / "helm" / "examples").glob("*.yaml"))):
        values = ["--set=allowUnauthenticated=true"] if path is None else ["--values", path]
        done = helm("lint", "--strict", *values, ROOT / "helm")
        assert done.returncode == 0, done.stdout


def test_there_is_an_example_of_each_way_to_run_it() -> None:
    names = {path.stem for path in (ROOT / "helm" / "examples").glob("*.yaml")}
    assert names == {"cpu-demo", "one-gpu", "tensor-parallel", "postgresql-keda"}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(example, version) -> None:
    own = [one for one in example.all if one["kind"] not in CUSTOM]
    assert len(own) >= 6
    for one in own:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_job_that_collects(version) -> None:
    job = yaml.safe_load((ROOT / "deploy" / "collect-job.yaml").read_text())
    kubernetes_validate.validate(job, version, strict=True)


def test_the_job_that_collects_names_options_and_a_shard_for_each_pod() -> None:
    spec = yaml.safe_load((ROOT / "deploy" / "collect-job.yaml").read_text())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    command = get_command(app).commands[container["args"][0]]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    used = dict(word.split("=") for word in container["args"] if word.startswith("--"))
    assert set(used) <= known
    assert used["--shard"] == f"$(JOB_COMPLETION_INDEX)/{spec['completions']}"


def test_the_operators_take_every_custom_object(example) -> None:
    for one in example.all:
        if model := CUSTOM.get(one["kind"]):
            read = model.model_validate(one)
            again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
            assert again == one, "a field that the CRD does not have"


def test_the_service_takes_the_settings(example, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in example.settings.items():
        monkeypatch.setenv(name, value)
    read = load_settings()
    assert read.host == "0.0.0.0"
    assert read.metrics_port == 9090


def test_tensor_parallelism_has_its_gpus() -> None:
    values = yaml.safe_load((ROOT / "helm" / "examples" / "tensor-parallel.yaml").read_text())
    assert values["settings"]["vllm_tensor_parallel_size"] == values["gpu"]["count"]


def test_names_are_unique_and_labelled(example) -> None:
    named = [(one["kind"], one["metadata"]["name"]) for one in example.all]
    assert len(set(named)) == len(named)
    for one in example.all:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "gate"


def test_nothing_secret_is_in_it(example) -> None:
    assert example.kinds("Secret") == []
    assert not any("password" in value.lower() for value in example.settings.values())
