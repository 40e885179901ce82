"""What can be checked of the dependencies without a vulnerability service: ``make audit``.

Each package that the project needs, through however many others, must be installed as
``constraints.txt`` pins it, and none may be of a version that ``advisories.toml`` knows a hole of.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT, EXTRAS = "vlm-gate", ("train", "transformers", "demo", "dev")


def normal(name: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(project: str, extras: Iterable[str]) -> dict[str, str]:
    """Every package that a project needs here, with the version that is installed.

    Raises PackageNotFoundError: one is not.
    """
    found: dict[str, str] = {}
    waiting, seen = [(project, ""), *((project, extra) for extra in extras)], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        one = distribution(name)
        if name != project:
            found[name] = one.version
        for line in one.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                deeper = normal(wanted.name)
                waiting += [(deeper, ""), *((deeper, more) for more in wanted.extras)]
    return found


def pinned(text: str) -> dict[str, str]:
    """What a constraints file pins. Raises ValueError for a line that pins nothing."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        line = line.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals:
            raise ValueError(f"constraints.txt: {line!r} pins no version; write name==version")
        pins[normal(name.partition("[")[0].strip())] = version.strip()
    return pins


def problems(
    found: Mapping[str, str], pins: Mapping[str, str], advisories: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with the packages found, one sentence each."""
    for name, version in sorted(found.items()):
        if name not in pins:
            yield f"{name} {version} is not in constraints.txt; pin it"
        elif version not in SpecifierSet(f"=={pins[name]}"):
            yield f"{name} is {version}, and constraints.txt pins {pins[name]}; install that"
        for hole in advisories.get(name, ()):
            if Version(version) < Version(hole["fixed"]):
                yield (
                    f"{name} {version} has {hole['id']} ({hole['about']}); "
                    f"pin {hole['fixed']} or later"
                )


def main() -> int:
    """Print the problems; 1 when there are any."""
    known = tomllib.loads((ROOT / "deploy" / "advisories.toml").read_text())
    found = needed(PROJECT, EXTRAS)
    pins = pinned((ROOT / "constraints.txt").read_text())
    told = list(problems(found, pins, known["packages"]))
    for problem in told:
        print(problem, file=sys.stderr)
    holes = sum(map(len, known["packages"].values()))
    print(f"{len(found)} packages, {holes} advisories of {known['date']}: {len(told)} problems")
    return 1 if told else 0


if __name__ == "__main__":
    raise SystemExit(main())
