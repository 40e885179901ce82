"""What the built environment must be; ends with 1 otherwise. Run by its own Python.

``service`` is a taken name on PyPI: that ours is the one installed is checked by who brought it.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import (
    PackageNotFoundError,
    files,
    packages_distributions,
    requires,
    version,
)
from importlib.util import find_spec
from pathlib import Path

OURS = ("service", "probes", "testbed")
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "make", "rustc", "nvcc")


def problems(sbom: Path, compilers: bool) -> list[str]:
    """What is wrong, one line each."""
    found = []
    owners = packages_distributions()
    listed = {Path(str(path.locate())).resolve() for path in files("vlm-gate") or []}
    for name in OURS:
        if set(owners.get(name, ())) != {"vlm-gate"}:
            found.append(f"{name}: belongs to {owners.get(name)}, not to vlm-gate alone")
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin not in listed:
            found.append(f"{name}: is imported from {origin}, which vlm-gate did not install")
    found += [f"{name}: is not installed, and collect and train need it" for name in _lacking()]
    if not compilers:
        found += [f"{name}: a compiler is here" for name in COMPILERS if shutil.which(name)]
    names = {part["name"]: part["version"] for part in json.loads(sbom.read_text())["components"]}
    if names.get("vlm-gate") != version("vlm-gate"):
        found.append(f"{sbom}: does not list vlm-gate {version('vlm-gate')}")
    if len(names) < 20:
        found.append(f"{sbom}: lists only {len(names)} packages")
    return found


def _lacking() -> list[str]:
    """What the extra ``train`` asks for and is not here: the image collects and trains, too."""
    lacking = []
    for line in requires("vlm-gate") or []:
        name, _, marker = line.partition(";")
        if 'extra == "train"' in marker:
            try:
                version(name.strip())
            except PackageNotFoundError:
                lacking.append(name.strip())
    return lacking


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]), compilers="--with-compiler" in sys.argv)
    print(
        "\n".join(wrong) or "service, probes and testbed are ours; the bill of materials is whole"
    )
    sys.exit(bool(wrong))
