"""The README's commands, run as they stand there (but for the port and the environment's place).

The last lines of its demo are compared in ``tests/embedded/test_demo.py``, what vLLM keeps in
``test_vllm_page.py``, the folders that it names in ``test_architecture.py``.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter
from typer.main import get_command

from service.cli import app
from service.client import Client
from service.offline.own_service import local_service
from service.settings import Settings
from testbed.drawing import render
from testbed.scenes import make_scene

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service() as where:
        yield where


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder but for the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def shell(command: str, url: str, folder: Path) -> str:
    """Run one line of the README; gives its output."""
    command = command.replace(
        ".venv/bin/vlm-gate", f"{shlex.quote(sys.executable)} -m service.cli"
    ).replace("http://127.0.0.1:8080", url)
    if "service.cli ask" in command:
        command += f" --url {url}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_curl_answers_as_the_readme_shows(url: str, folder: Path) -> None:
    command = next(text for _, text in BLOCKS if "curl" in text).strip()
    told = json.loads(shell(command, url, folder))
    shown = json.loads(next(text for kind, text in BLOCKS if kind == "json"))
    assert set(told) == set(shown)
    for name in ("answer", "decision", "reason", "model", "bundle", "certificate", "mode"):
        assert told[name] == shown[name], name
    assert told["risk"]["score"] == pytest.approx(shown["risk"]["score"], abs=1e-3)
    ask = re.search(r"`(\.venv/bin/vlm-gate ask [^`]+)`", README)
    assert ask is not None
    assert told["answer"] in shell(ask.group(1), url, folder)


def test_questions_about_the_picture_get_the_answers_shown(url: str) -> None:
    rows = table("question", 5)
    assert len(rows) == 4
    with Client(url) as client:
        for question, answer, _, risk, decision in rows:
            told = client.answer(ROOT / "examples" / "housing.png", question)
            reason = "" if told.decision == "accept" else f": {told.reason.replace('_', ' ')}"
            assert told.risk.score is not None
            got = (told.answer, f"{told.risk.score:.2f}", told.decision + reason)
            assert got == (answer, risk, decision), question


def test_the_truths_are_those_of_the_scene_in_the_picture() -> None:
    scene = make_scene(200_018, "line")
    with Image.open(ROOT / "examples" / "housing.png") as stored:
        assert (np.asarray(stored) == render(scene)).all()
    defects = {defect.kind for defect in scene.defects}
    assert defects == {"dent", "missing screw"}
    truths = [row[2] for row in table("question", 5)]
    assert truths == ["yes", "no", "a dent and a missing screw", ""]  # a dent, no crack, which


def table(first: str, columns: int) -> list[list[str]]:
    """The cells of the README's table whose first column has this name."""
    (body,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in body.splitlines()]
    assert {len(row) for row in rows} == {columns}
    return rows


def test_four_rows_of_results_are_those_of_the_page() -> None:
    rows = [f"| {' | '.join(row)} |\n" for row in table("signal", 4)]
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(rows) == 4
    assert all(row in page for row in rows)


def test_what_llavas_bundle_accepts_is_what_its_evaluation_says() -> None:
    found = json.loads((ROOT / "docs" / "results" / "llava" / "evaluation.json").read_text())
    whole = next(one for one in found["accepted"] if one["by"] is None)
    coverage, error = whole["coverage"]["estimate"], whole["error"]["estimate"]
    claim = (
        f"accepts {coverage:.0%} of the test split's answers, and {error:.1%} of those are wrong"
    )
    assert claim.replace("%", " %") in " ".join(README.split())


def test_the_glossary_has_ten_words() -> None:
    words = [word for word, _ in table("word", 2)]
    assert words == [
        *("bundle", "probe", "risk", "certificate", "alpha"),
        *("delta", "slice", "audit", "domain", "escalation"),
    ]


def test_the_tree_has_a_line_for_each_folder() -> None:
    tree = next(text for _, text in BLOCKS if text.startswith("probes/"))
    top, listed = "", set()
    for line in tree.splitlines():
        name = line.split()[0]
        top = top if line.startswith(" ") else name
        listed.add(f"{top}{name}" if line.startswith(" ") else name)
    inside = {
        f"{module.parent.relative_to(ROOT).as_posix()}/"
        for package in ("probes", "service")
        for module in (ROOT / package).glob("*/__init__.py")
    }
    assert {name for name in listed if name.count("/") == 2} == inside
    assert all((ROOT / name).is_dir() for name in listed)


def test_what_is_installed_is_there_to_install() -> None:
    block = next(text for _, text in BLOCKS if "docker build" in text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", block)
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (target, tag) = re.findall(r"docker build --target (\w+) -t (\S+) \.", block)[0]
    assert re.search(rf"^FROM \w+ AS {target}$", dockerfile, re.MULTILINE)
    assert tag == f"vlm-gate:{project['version']}"
    run = block[block.index("docker run") :]
    assert run.split()[-1] == tag
    (inside,) = re.findall(r"-p 127\.0\.0\.1:\d+:(\d+)", run)
    assert inside in re.findall(r"\d+", re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)[0])
    for name, value in re.findall(r"-e VLM_GATE_(\w+)=(\S+)", run):
        TypeAdapter(Settings.model_fields[name.lower()].annotation).validate_strings(value)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_commands_and_options_exist() -> None:
    """The offline commands need hours of collection; that they exist is checked here."""
    known = get_command(app)
    lines = [line for _, text in BLOCKS for line in text.splitlines()]
    assert any(line.startswith("vlm-gate") for line in lines)
    for line in lines:
        found = re.match(r"(?:VLM_GATE_\w+=\S+ )?vlm-gate (\w+)(.*)", line)
        if found is None:
            continue
        command = known.commands[found.group(1)]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        used = re.findall(r"--[\w-]+", found.group(2).partition("#")[0])
        assert set(used) <= options, line


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
