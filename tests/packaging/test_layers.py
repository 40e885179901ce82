"""The linter holds the layers: each of its contracts breaks when one line breaks its rule."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("probes", "service", "testbed", "deploy/grafana", "deploy/incident")
ALLOWED = """from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.http.server import Server
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of every module that the linter reads, and of its rules."""
    root = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("[!_]*.json", "*.safetensors", "*.png", "__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    return root


def lint(house: Path) -> tuple[int, str]:
    """The linter's exit status and its words."""
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=house,
        env={"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_the_house_keeps_its_rules(house: Path) -> None:
    status, told = lint(house)
    assert status == 0, told
    assert "BROKEN" not in told


PLANTED = {
    "the science imports the service": (
        {"probes/data/planted.py": "import service.errors"},
        "service builds on probes, never back",
    ),
    "the gate imports what is above it": (
        {"service/gate/planted.py": "import service.http.server"},
        "the layers of the service",
    ),
    "one sibling imports another": (
        {"service/images/planted.py": "import service.records.store"},
        "the layers of the service",
    ),
    "a room of the service that no layer names": (
        {"service/planted/__init__.py": ""},
        "the layers of the service",
    ),
    "signals import what fits them": (
        {"probes/signals/planted.py": "import probes.fit.train"},
        "the layers of the science",
    ),
    "a module of the science that no layer names": (
        {"probes/planted.py": ""},
        "the layers of the science",
    ),
    "the science imports an engine": (
        {"probes/fit/planted.py": "import torch"},
        "the science knows no engine and no web",
    ),
    "serving imports what only training needs": (
        {"service/gate/planted.py": "import sklearn"},
        "serving needs nothing that only training needs",
    ),
    "serving imports it through another module": (
        {"service/gate/planted.py": "import probes.data.store"},
        "serving needs nothing that only training needs",
    ),
    "the client imports numpy": (
        {"service/client/planted.py": "import numpy"},
        "the client is light",
    ),
    "a circle in one folder": (
        {
            "service/records/planted.py": "import service.records.grown",
            "service/records/grown.py": "import service.records.planted",
        },
        "no circles",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_broken_rule_is_found(house: Path, case: str) -> None:
    modules, contract = PLANTED[case]
    try:
        for name, line in modules.items():
            (house / name).parent.mkdir(exist_ok=True)
            (house / name).write_text(f"{line}\n")
        status, told = lint(house)
    finally:
        for name in modules:
            (house / name).unlink()
            if name.endswith("/__init__.py"):
                (house / name).parent.rmdir()
    assert status == 1, told
    assert any(line.startswith(f"{contract} BROKEN") for line in told.splitlines()), told


def test_an_import_for_types_alone_may_go_up(house: Path) -> None:
    planted = house / "service/gate/planted.py"
    planted.write_text(ALLOWED)
    try:
        status, told = lint(house)
    finally:
        planted.unlink()
    assert status == 0, told
