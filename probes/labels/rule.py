"""How an answer is judged: a rule's name and what it needs to know, as a line of data says it.

A rule is written as its name (``"match"``) or as an object with its name and parameters::

    {"rule": "number", "tolerance": 0.5}
    {"rule": "choice", "options": {"A": "red", "B": "blue"}}
    {"rule": "date", "order": "dmy"}
    {"rule": "match", "aliases": {"two": ["a pair", "both"]}}

In records, stores and parquet files it is a text: the name, or the object as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from probes.errors import DataError
from probes.labels.dates import DateOrder
from probes.labels.text import match_form

LabelRule = Literal["yes_no", "match", "vqa", "number", "choice", "set", "date", "regex", "ignore"]
LABEL_RULES: tuple[LabelRule, ...] = get_args(LabelRule)
MOST_TEXT = 10_000
"""Longest rule, in characters of its JSON."""

_PARAMETERS: Mapping[LabelRule, tuple[str, ...]] = {
    "number": ("tolerance", "relative"),
    "choice": ("options",),
    "date": ("order",),
}
_WITHOUT_ALIASES = ("regex", "ignore")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its parameters; :func:`parse_rule` makes one.

    Args:
        tolerance: ``number``: how far an answer may be from the reference.
        relative: ``number``: likewise, as a share of the reference; the wider one counts.
        options: ``choice``: letter (empty where there is none) and text of each.
        order: ``date``: of day and month written as numbers; None reads only what is certain.
        aliases: texts that mean another one: that one, and those.
    """

    name: LabelRule
    tolerance: float = 0.0
    relative: float = 0.0
    options: tuple[tuple[str, str], ...] = ()
    order: DateOrder | None = None
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def text(self) -> str:
        """The rule as text: its name, or JSON where it has parameters."""
        said: dict[str, Any] = {}
        if self.tolerance:
            said["tolerance"] = self.tolerance
        if self.relative:
            said["relative"] = self.relative
        if self.options:
            lettered = all(letter for letter, _ in self.options)
            said["options"] = dict(self.options) if lettered else [one for _, one in self.options]
        if self.order:
            said["order"] = self.order
        if self.aliases:
            said["aliases"] = {name: list(others) for name, others in self.aliases}
        if not said:
            return self.name
        return json.dumps({"rule": self.name, **said}, ensure_ascii=False)

    def means(self, text: str) -> str:
        """Return the text that an alias stands for, or the text itself."""
        form = match_form(text)
        for name, others in self.aliases:
            if any(match_form(other) == form for other in others):
                return name
        return text


def parse_rule(rule: str | Mapping[str, Any], aliases: Mapping[str, Any] | None = None) -> Rule:
    """Read a rule as a line of data, an outcome or a record has it.

    Args:
        rule: a name, an object with the field ``rule``, or that object as JSON.
        aliases: of the line, beside the rule.

    Raises DataError that names the field and the fix.
    """
    if isinstance(rule, str):
        return _parse_text(rule) if aliases is None else _parse(_object(rule), aliases)
    return _parse(rule, aliases)


def rule_name(rule: str) -> LabelRule:
    """Return the name in a rule's text. Raises DataError for a text that is no rule."""
    return _parse_text(rule).name


@lru_cache(maxsize=4096)
def _parse_text(text: str) -> Rule:
    return _parse(_object(text), None)


def _object(text: str) -> Mapping[str, Any]:
    if not text.lstrip().startswith("{"):
        return {"rule": text}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"rule: begins as a JSON object and is none ({error})") from error
    assert isinstance(said, dict)  # it begins with a brace
    return said


def _parse(said: Mapping[str, Any], aliases: Mapping[str, Any] | None) -> Rule:
    name = said.get("rule")
    if not isinstance(name, str) or name not in LABEL_RULES:
        raise DataError(f"rule: {name!r} is none of {', '.join(LABEL_RULES)}")
    known = (*_PARAMETERS.get(name, ()), *(() if name in _WITHOUT_ALIASES else ("aliases",)))
    for field in said:
        if field not in ("rule", *known):
            use = f"it takes {', '.join(known)}" if known else "it takes nothing more"
            raise DataError(f"{field}: rule {name} does not take it; {use}")
    if aliases is not None:
        if "aliases" in said:
            raise DataError("aliases: stands in the rule already; give it once")
        if name in _WITHOUT_ALIASES:
            raise DataError(f"aliases: rule {name} does not take them; leave them out")
    found = Rule(
        name=name,
        tolerance=_size(said, "tolerance"),
        relative=_size(said, "relative"),
        options=_options(said) if name == "choice" else (),
        order=_order(said),
        aliases=_aliases(said.get("aliases") if aliases is None else aliases),
    )
    if len(found.text) > MOST_TEXT:
        raise DataError(f"rule: longer than {MOST_TEXT} characters; give fewer options or aliases")
    return found


def _size(said: Mapping[str, Any], field: str) -> float:
    value = said.get(field, 0.0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= sys.float_info.max:  # JSON's integers may be larger
        raise DataError(f"{field}: {str(value)[:40]} is no number from 0 on, such as 0.5")
    return float(value)


def _options(said: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    options = said.get("options")
    if isinstance(options, Mapping):
        pairs = list(options.items())
    elif isinstance(options, list):
        pairs = [("", one) for one in options]
    else:
        pairs = []
    texts = [text for _, text in pairs]
    if len(pairs) < 2 or not all(isinstance(text, str) and match_form(text) for text in texts):
        raise DataError(
            'options: rule choice wants at least two, as {"A": "red", "B": "blue"} or ["red", '
            '"blue"]'
        )
    if len({match_form(text) for text in texts}) < len(texts):
        raise DataError("options: two of them are the same text; give each once")
    letters = [letter.strip() for letter, _ in pairs]
    if isinstance(options, Mapping) and not all(
        len(match_form(one).split()) == 1 for one in letters
    ):
        raise DataError("options: a letter must be one word, such as A or 1")
    return tuple(zip(letters, texts, strict=True))


def _order(said: Mapping[str, Any]) -> DateOrder | None:
    order = said.get("order")
    if order is None:
        return None
    for known in get_args(DateOrder):
        if order == known:
            return known  # type: ignore[no-any-return]
    raise DataError(f"order: {order!r} is none of {', '.join(get_args(DateOrder))}")


def _aliases(said: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if said is None:
        return ()
    usable = isinstance(said, Mapping) and all(
        isinstance(others, list) and all(isinstance(o, str) and match_form(o) for o in others)
        for others in said.values()
    )
    if not usable or not all(isinstance(name, str) and match_form(name) for name in said):
        raise DataError('aliases: write what is meant and what means it: {"two": ["a pair"]}')
    owners: dict[str, str] = {}
    for name, others in said.items():
        for other in others:
            if owners.setdefault(match_form(other), name) != name:
                raise DataError(f"aliases: {other!r} means two things; give it once")
    return tuple((name, tuple(others)) for name, others in said.items())
