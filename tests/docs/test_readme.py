"""The README's commands, run as they stand there (but for the port and the environment's place)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from service.cli import app
from service.offline.own_service import local_service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service() as where:
        yield where


def shell(command: str, url: str, folder: Path) -> str:
    """Run one line of the README in an empty folder; gives its output."""
    command = command.replace(".venv/bin/python", shlex.quote(sys.executable))
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


def test_curl_answers_as_the_readme_shows(url: str, tmp_path: Path) -> None:
    commands = next(text for _, text in BLOCKS if "curl" in text).strip().splitlines()
    for command in commands[:-1]:
        shell(command, url, tmp_path)
    told = json.loads(shell(commands[-1], url, tmp_path))
    shown = json.loads(next(text for kind, text in BLOCKS if kind == "json"))
    assert set(told) == set(shown)
    for name in ("answer", "decision", "reason", "model", "bundle", "certificate", "mode"):
        assert told[name] == shown[name], name
    assert told["risk"]["score"] == pytest.approx(shown["risk"]["score"], abs=1e-3)
    ask = re.search(r"`(\.venv/bin/vlm-gate ask [^`]+)`", README)
    assert ask is not None
    assert told["answer"] in shell(ask.group(1), url, tmp_path)


def test_the_table_of_signals_is_that_of_the_committed_evaluations() -> None:
    judged = [
        json.loads((ROOT / "docs" / "results" / name / "evaluation.json").read_text())
        for name in ("llava", "paligemma", "qwen2vl")
    ]
    names = {
        "**risk** (what the gate decides on)": ("signals", "risk"),
        "hidden-state probe": ("signals", "hidden_state_probe"),
        "token confidence": ("signals", "token_confidence"),
        "self-consistency, K = 10": ("signals", "self_consistency"),
        "attention: spatial entropy": ("signals", "attention_spatial_entropy"),
        "attention: top-30 % mass": ("signals", "attention_top30_mass"),
        "attention: clusters": ("signals", "attention_clusters"),
        "words of the question alone (control)": ("controls", "question_words"),
    }
    rows = re.findall(r"^\| (.+?) \| (\d.+?) \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    assert [row[0] for row in rows] == list(names)
    for name, *cells in rows:
        group, signal = names[name]
        for cell, evaluation in zip(cells, judged, strict=True):
            value = evaluation[group][signal]["auroc"]
            told = f"{value['estimate']:.2f} [{value['lower']:.2f}, {value['upper']:.2f}]"
            assert cell == told, name


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
