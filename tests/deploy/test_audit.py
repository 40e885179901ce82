"""The audit finds what is not pinned, what is another version, and what has a known hole."""

from __future__ import annotations

import tomllib
from datetime import date

import pytest
from packaging.version import Version

from deploy.audit import EXTRAS, PROJECT, ROOT, needed, pinned, problems

KNOWN = tomllib.loads((ROOT / "deploy" / "advisories.toml").read_text())


def test_what_is_installed_here_has_no_problem() -> None:
    found = needed(PROJECT, EXTRAS)
    assert len(found) > 80
    assert {"pillow", "starlette", "cryptography", "torch", "schemathesis"} <= set(found)
    pins = pinned((ROOT / "constraints.txt").read_text())
    assert list(problems(found, pins, KNOWN["packages"])) == []


@pytest.mark.parametrize(
    ("found", "pins", "said"),
    [
        ({"lapp": "1.0"}, {}, "lapp 1.0 is not in constraints.txt"),
        ({"lapp": "1.0"}, {"lapp": "1.1"}, "pins 1.1"),
        ({"pillow": "10.2.0"}, {"pillow": "10.2.0"}, "CVE-2024-28219"),
        ({"h11": "0.9.0"}, {"h11": "0.9.0"}, "pin 0.16.0 or later"),
    ],
)
def test_each_problem_is_found(found, pins, said) -> None:
    told = list(problems(found, pins, KNOWN["packages"]))
    assert any(said in problem for problem in told), told


def test_a_build_of_a_pinned_version_is_that_version() -> None:
    assert list(problems({"torch": "2.13.0+cpu"}, {"torch": "2.13.0"}, {})) == []


def test_the_advisories_can_be_read() -> None:
    assert isinstance(KNOWN["date"], date)
    for holes in KNOWN["packages"].values():
        for hole in holes:
            assert hole["id"].startswith("CVE-")
            assert Version(hole["fixed"])


def test_a_line_that_pins_nothing_is_refused() -> None:
    assert pinned("# word\nA_b[x]==1.0 ; python_version > '3'\n\n") == {"a-b": "1.0"}
    with pytest.raises(ValueError, match="pins no version"):
        pinned("lapp>=1\n")
