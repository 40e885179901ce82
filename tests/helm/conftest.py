"""The chart, rendered by Helm itself."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
OPEN: Mapping[str, Any] = {"allowUnauthenticated": True}
"""The least that renders: without keys nobody could call, and the chart says so."""


@cache
def helm_program() -> Path:
    spec = importlib.util.spec_from_file_location("get_helm", ROOT / "deploy" / "get_helm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program: Path = module.helm()
    return program


def run_helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm and keep what it says."""
    return subprocess.run([helm_program(), *words], capture_output=True, text=True, check=False)


@pytest.fixture(name="helm")
def _helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_helm


class Rendered:
    """The objects of one rendering, by kind."""

    def __init__(self, text: str) -> None:
        self.all: list[dict[str, Any]] = [one for one in yaml.safe_load_all(text) if one]

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.all if one["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        found = self.kinds(kind)
        assert len(found) == 1, [one["metadata"]["name"] for one in found]
        return found[0]

    @property
    def pod(self) -> dict[str, Any]:
        """The service's pod."""
        spec: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        """The service's container."""
        (container,) = self.pod["containers"]
        found: dict[str, Any] = container
        return found

    @property
    def settings(self) -> dict[str, str]:
        """VLM_GATE_* of the ConfigMap."""
        (found,) = [
            one for one in self.kinds("ConfigMap") if one["metadata"]["name"] == "gate-vlm-gate"
        ]
        data: dict[str, str] = found["data"]
        return data

    def pods(self) -> list[dict[str, Any]]:
        """The specification of every pod that any object would start."""
        specs = [one["spec"] for one in self.kinds("Pod")]
        for kind in ("Deployment", "Job"):
            specs += [one["spec"]["template"]["spec"] for one in self.kinds(kind)]
        return specs


@pytest.fixture
def template(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`helm template` with values over the least that renders."""

    def run(values: Mapping[str, Any] | None = None, example: Path | None = None) -> Any:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values or {})))
        first = [] if example is None else ["--values", str(example)]
        return run_helm("template", "gate", CHART, "--namespace=lines", *first, "--values", file)

    return run


@pytest.fixture
def render(template: Callable[..., Any]) -> Callable[..., Rendered]:
    """The objects that values give."""

    def run(values: Mapping[str, Any] | None = None) -> Rendered:
        done = template({**OPEN, **(values or {})})
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout)

    return run


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest, template: Callable[..., Any]) -> Rendered:
    """Each file of helm/examples."""
    done = template(example=request.param)
    assert done.returncode == 0, done.stderr
    return Rendered(done.stdout)
