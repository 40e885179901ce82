"""Audit what is installed: known holes (advisories.toml), broken requirements, and pip-audit.

pip-audit needs a vulnerability service on the network. Where it is not installed, or reaches none,
this says so and goes on: the other two need no network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.version import Version

ADVISORIES = Path(__file__).with_name("advisories.toml")


def installed_version(name: str) -> str | None:
    """Of a distribution, or None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def holes(
    advisories: Mapping[str, Mapping[str, str]], installed: Mapping[str, str | None]
) -> list[str]:
    """One line for each advisory that an installed version is open to."""
    return [
        f"{name} {found}: {advisory}, mended in {mended}"
        for name, listed in advisories.items()
        if (found := installed[name]) is not None
        for advisory, mended in listed.items()
        if Version(found) < Version(mended)
    ]


def online() -> list[str] | None:
    """What pip-audit finds; None when it cannot be asked."""
    ran = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--local", "--skip-editable",
         "--progress-spinner=off", "--format=json"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    try:
        audited = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return [
        f"{entry['name']} {entry['version']}: {hole['id']}, mended in {hole['fix_versions']}"
        for entry in audited
        for hole in entry.get("vulns", ())
    ]


def main() -> int:
    """Print what was found; 1 when there is something."""
    advisories = tomllib.loads(ADVISORIES.read_text())
    found = holes(advisories, {name: installed_version(name) for name in advisories})
    requirements = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True
    )
    if requirements.returncode != 0:
        found += requirements.stdout.splitlines()
    asked = online()
    print("pip-audit: " + ("no service reached, so not asked" if asked is None else "asked"))
    found += asked or []
    count = sum(map(len, advisories.values()))
    print("\n".join(found) or f"{count} known advisories: none applies; requirements: met")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
