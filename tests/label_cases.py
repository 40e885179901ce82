"""The table of label cases, which every path that judges an answer runs through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.labels.rule import parse_rule


@dataclass(frozen=True)
class Case:
    """An answer and what is to come of it.

    Args:
        rule: a name, or an object with parameters.
        right: by that rule.
        agrees: with the first reference, where no rule is known, as in self-consistency.
    """

    answer: str
    references: tuple[str, ...]
    rule: str | Mapping[str, Any]
    right: bool
    agrees: bool

    @property
    def rule_name(self) -> str:
        return parse_rule(self.rule).name

    @property
    def reference(self) -> str | None:
        """As one text, for an outcome; None where the rule wants several."""
        if self.rule_name == "set":
            return ", ".join(self.references)
        return self.references[0] if len(self.references) == 1 else None


def _case(line: str) -> Case:
    said = json.loads(line)
    references = tuple(said["references"])
    agrees = said.get("agrees", said["right"])
    return Case(said["answer"], references, said["rule"], said["right"], agrees)


CASES = [
    _case(line)
    for line in (Path(__file__).parent / "label_cases.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
