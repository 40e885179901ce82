"""Old words of commands, and commands where the extra ``train`` is not installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.cli.told import EXTRAS

ROOT = Path(__file__).parents[3]
BUNDLE = str(ROOT / "testbed" / "bundles" / "llava")
TRAINING = {name for name, extra in EXTRAS.items() if extra == "train"}
SAYS = "install it: pip install 'vlm-gate[train]'"
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({TRAINING!r}))  # what imports one of them is told there is none
from typer.testing import CliRunner
from service.cli import app
for line in sys.stdin.read().splitlines():
    done = CliRunner().invoke(app, line.split(), catch_exceptions=False)
    print(done.exit_code, done.stderr.replace(chr(10), " "))
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("certify", "b", "--from-records", "--out", "o"), "give --since DAY"),
        (("reproduce", "--merge", "none.json", "--out", "o"), "none.json: cannot be read"),
        (("certify", "--from-records", "--help"), "people said of its answers"),
        (("reproduce", "--help", "--merge"), "several models' reproductions"),
    ],
)
def test_the_old_words_are_another_command_by_its_old_name(
    words: tuple[str, ...], says: str
) -> None:
    done = CliRunner().invoke(app, words)
    assert says in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("certify", "--help"), "--from-records"),
        (("reproduce", "--help"), "--merge"),
    ],
)
def test_help_does_not_speak_of_the_old_words(words: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert says not in done.output


def test_the_extra_is_what_the_commands_ask_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, by_import = project["optional-dependencies"], packages_distributions()
    owners = {owner.lower() for name in TRAINING for owner in by_import[name]}
    assert owners == set(extras["train"])
    assert not owners & {line.partition("[")[0] for line in project["dependencies"]}
    for name, extra in EXTRAS.items():
        assert {one.lower() for one in by_import.get(name, [name])} <= set(extras[extra])


def test_each_offline_command_names_the_extra_and_the_others_run(tmp_path: Path) -> None:
    need = [
        "collect q --out o", "train r --out o", f"certify r {BUNDLE} --out o",
        f"evaluate r {BUNDLE} --out o", "report e --out o", "merge r --out o",
        "reproduce --data q --out o", "merge-reproductions q --out o",
        f"policy simulate r {BUNDLE}", "records export x.parquet",
    ]  # fmt: skip
    run = [
        f"bundle verify {BUNDLE}", f"bundle inspect {BUNDLE}", "records migrate",
        "plan --questions-per-second 1 --answers-per-second 1 --accepted-share 0.5",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VLM_GATE_ENGINE": "fake"},
        input="\n".join([*need, *run]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for command, line in zip(need, lines, strict=False):
        assert line.startswith("1 error: this command needs "), (command, line)
        assert line.rstrip().endswith(SAYS), (command, line)
    assert [line.partition(" ")[0] for line in lines[len(need) :]] == ["0"] * len(run), lines
