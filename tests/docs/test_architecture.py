"""docs/architecture.md, the README and CONTRIBUTING.md name the folders, files and targets that
there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("docs/architecture.md", "README.md", "CONTRIBUTING.md")
}
TEXT = PAGES["docs/architecture.md"]


def folders(package: str) -> set[str]:
    """Every folder of a package that holds modules, such as ``service/gate/``."""
    found = {path.parent for path in (ROOT / package).rglob("*.py")}
    names = {f"{path.relative_to(ROOT).as_posix()}/" for path in found}
    return {name for name in names if not name.endswith("/versions/")}  # Alembic's own folder


@pytest.mark.parametrize("package", ["service", "probes"])
def test_every_folder_has_a_row_and_every_row_a_folder(package: str) -> None:
    rows = re.findall(rf"^\| `({package}/[\w/]*)` \| \S.+ \|$", TEXT, re.MULTILINE)
    assert sorted(rows) == sorted(folders(package))


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_every_path_that_is_named_exists(text: str) -> None:
    named = re.findall(r"[` ]((?:\w+/)+(?:\w+\.\w+)?)`", text)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


def layers(package: str) -> list[set[str]]:
    """A package's layers as the page draws them, the highest first."""
    (drawn,) = re.findall(r"^```text\n(service\n.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (lines,) = re.findall(rf"^{package}\n((?: +.+\n)+)", drawn, re.MULTILINE)
    return [set(re.findall(r"\w+", line)) for line in lines.splitlines()]


@pytest.mark.parametrize("package", ["service", "probes"])
def test_every_folder_and_module_is_in_one_layer(package: str) -> None:
    listed = [name for layer in layers(package) for name in layer]
    inside = {Path(name).parts[1] for name in folders(package) if name.count("/") > 1}
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(inside | modules)


def test_the_layers_are_those_that_the_linter_holds() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    held = {
        package: [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
        for contract in told["contracts"]
        for package in contract.get("containers", ())
    }
    assert held
    assert held == {package: layers(package) for package in held}


def test_contributors_are_told_of_targets_and_links_that_there_are() -> None:
    text = PAGES["CONTRIBUTING.md"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
