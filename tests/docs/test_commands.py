"""Every block of commands in the guides is run here, names the test that runs it, or says why not.

The line before a block says which: ``<!-- run -->``, ``<!-- run by tests/... -->`` or
``<!-- not run: reason -->``. Blocks of other languages (json, text, ...) show something. README.md
has a test of its own: test_readme.py.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from service.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
COMMANDS = {"bash", "sh", "python", ""}
BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands in a guide, and what is said about running them."""

    page: Path
    number: int
    language: str
    text: str
    said: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}"


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [
        Block(page, number, language, text, said)
        for number, (said, language, text) in enumerate(found)
        if language in COMMANDS
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.said == "run"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_seen(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) * 2 == len(re.findall(r"^\s*```", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    if found := re.fullmatch(r"run by (tests/[\w/]+\.py)", block.said):
        text = (ROOT / found.group(1)).read_text(encoding="utf-8")
        assert block.page.name in text, f"{found.group(1)} does not read this page"
    elif block.said != "run":
        assert re.fullmatch(r"not run: \w.{15,}", block.said), block.said or "nothing is said"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language != "python"], ids=str)
def test_every_command_and_option_exists(block: Block) -> None:
    """Of those that are not run, too."""
    known = get_command(app)
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        found = re.match(r"(?:\S+=\S+ )*vlm-gate ([\w-]+)(?: (\w+))?(.*)", line)
        if found is None:
            continue
        command = known.commands[found.group(1)]  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            command = command.commands[found.group(2)]
        options = {option for parameter in command.params for option in parameter.opts}
        used = re.findall(r"(?<= )--[\w-]+", line.partition(" #")[0])
        assert set(used) <= options, line


@dataclass(frozen=True)
class Sandbox:
    """A folder with the files that the guides speak of, and a running service."""

    folder: Path
    url: str
    answer_id: str
    environment: dict[str, str]

    def run(self, block: Block) -> str:
        """All lines of a block, as they stand but for the places of this sandbox."""
        text = block.text
        for written, here in {
            "http://127.0.0.1:8080": self.url,
            "localhost:8080": self.url.removeprefix("http://"),
            "/etc/vlm-gate": str(self.folder / "etc"),
            "/elsewhere": str(self.folder / "elsewhere"),
            "01K...": self.answer_id,
            "3f9a1c0b7d52": "$(vlm-gate keys list | grep -oE '[0-9a-f]{12}' | head -1)",
        }.items():
            text = text.replace(written, here)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("guide")
    for name in ("helm", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docs", "testbed"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("etc", "elsewhere", "bin"):
        (folder / name).mkdir()
    for name, words in {
        "vlm-gate": f"{sys.executable} -m service.cli",
        "python": sys.executable,
        "helm": helm_program(),
    }.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    Image.fromarray(np.full((96, 96, 3), 128, dtype=np.uint8)).save(folder / "plate.png")
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "VLM_GATE_STATE_FOLDER": str(folder / "state"),
    }
    with serving(folder, {**environment, "VLM_GATE_PORT": "0"}) as url:
        with (folder / "plate.png").open("rb") as plate:
            answered = httpx.post(
                f"{url}/answer", data={"question": "Is it whole?"}, files={"image": plate}
            )
        yield Sandbox(folder, url, answered.json()["id"], environment)


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`vlm-gate serve` until the block ends; gives its address once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stderr is not None
        address = ""
        for line in started.stderr:
            if found := re.search(r"listening on (\S+)", line):
                address = found.group(1)
            if '"event": "ready"' in line:
                break
        else:
            pytest.fail("the service ended before it was ready")
        rest = threading.Thread(target=started.stderr.read)
        rest.start()
        try:
            yield address
        finally:
            started.send_signal(signal.SIGTERM)
            rest.join()


def helm_program() -> str:
    """Helm 4, as the chart's tests have it."""
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "get_helm.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("block", RUN, ids=str)
def test_what_is_said_to_run_runs(sandbox: Sandbox, block: Block) -> None:
    assert block.language in {"bash", "sh"}, "python blocks name their test"
    sandbox.run(block)
