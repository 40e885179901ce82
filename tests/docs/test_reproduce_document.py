"""docs/reproduce.md tells the options of the command as they are."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from service.cli.reproduce import reproduce

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()


def test_the_table_of_options_has_their_defaults() -> None:
    rows = re.findall(r"^\| (`--[^|]+) \| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)
    told = {}
    for names, defaults in rows:
        options = [name.strip(" `-").replace("-", "_") for name in names.split(",")]
        told |= dict(zip(options, map(int, defaults.split(",")), strict=True))
    known = inspect.signature(reproduce).parameters
    assert len(told) == 8
    assert told == {name: known[name].default for name in told}


def test_every_option_named_is_one_of_the_command() -> None:
    named = set(re.findall(r"(?<!-)--([a-z][a-z-]+)", DOCUMENT))
    known = {name.replace("_", "-") for name in inspect.signature(reproduce).parameters}
    assert named <= known
