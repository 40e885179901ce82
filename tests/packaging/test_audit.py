"""The audit of the dependencies finds what it should, and nothing in what is installed."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)
LISTED = tomllib.loads(audit.ADVISORIES.read_text())


def test_an_old_version_is_found_and_a_mended_one_is_not():
    listed = {"pillow": {"CVE-1": "10.2.0", "CVE-2": "10.10.0"}}
    assert audit.holes(listed, {"pillow": "10.9.1"}) == ["pillow 10.9.1: CVE-2, mended in 10.10.0"]
    assert audit.holes(listed, {"pillow": "10.10.0"}) == []
    assert audit.holes(listed, {"pillow": None}) == []


def test_nothing_installed_has_a_hole_that_is_listed():
    assert audit.holes(LISTED, {name: audit.installed_version(name) for name in LISTED}) == []


def test_the_list_names_what_we_depend_on_and_reads_as_versions():
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[>=]", name)[0].lower() for name in ours}
    assert len(names & LISTED.keys()) >= 8
    for listed in LISTED.values():
        assert all(re.fullmatch(r"CVE-\d{4}-\d+", name) for name in listed)
        assert all(Version(mended) for mended in listed.values())
