"""How rules are written, kept and refused."""

from __future__ import annotations

from typing import Any

import pytest

from probes.errors import DataError
from probes.labels import judge
from probes.labels.rule import LABEL_RULES, Rule, parse_rule


@pytest.mark.parametrize(
    "written",
    [
        "match",
        {"rule": "number", "tolerance": 0.5, "relative": 0.01},
        {"rule": "choice", "options": {"A": "red", "B": "blue"}},
        {"rule": "choice", "options": ["red", "blue"]},
        {"rule": "date", "order": "dmy"},
        {"rule": "match", "aliases": {"two": ["a pair", "both"]}},
    ],
)
def test_what_is_kept_reads_back_the_same(written: Any) -> None:
    rule = parse_rule(written)
    assert parse_rule(rule.text) == rule


def test_a_rule_without_parameters_is_kept_as_its_name() -> None:
    for name in LABEL_RULES:
        if name != "choice":
            assert parse_rule({"rule": name}).text == parse_rule(name).text == name


def test_the_aliases_of_a_line_stand_beside_its_rule() -> None:
    inside = parse_rule({"rule": "match", "aliases": {"two": ["a pair"]}})
    assert parse_rule("match", {"two": ["a pair"]}) == inside
    assert inside == Rule("match", aliases=(("two", ("a pair",)),))


@pytest.mark.parametrize(
    ("written", "aliases", "message"),
    [
        ("equal", None, "rule: 'equal' is none of"),
        ({}, None, "rule: None is none of"),
        ({"rule": ["match"]}, None, "rule: .* is none of"),
        ("{", None, "rule: begins as a JSON object"),
        ("choice", None, "options: rule choice wants at least two"),
        ({"rule": "choice", "options": ["red"]}, None, "options: rule choice wants at least two"),
        ({"rule": "choice", "options": ["red", "Red."]}, None, "options: two of them are the same"),
        ({"rule": "choice", "options": {"A B": "r", "C": "b"}}, None, "options: a letter"),
        ({"rule": "number", "tolerance": -1}, None, "tolerance: -1 is no number from 0 on"),
        ({"rule": "number", "tolerance": True}, None, "tolerance: True"),
        ({"rule": "number", "relative": float("nan")}, None, "relative: nan"),
        ({"rule": "number", "tolerance": 10**399}, None, "tolerance: 10+ is no number from 0 on"),
        ({"rule": "number", "relative": 10**4000}, None, "relative: 10+ is no number from 0 on"),
        ({"rule": "match", "tolerance": 1}, None, "tolerance: rule match does not take it"),
        ({"rule": "date", "order": "ymd"}, None, "order: 'ymd' is none of dmy, mdy"),
        ("match", {"two": "2"}, "aliases: write what is meant"),
        ("match", {"two": ["..."]}, "aliases: write what is meant"),
        ("match", {"two": ["both"], "three": ["both"]}, "aliases: 'both' means two things"),
        ("regex", {"two": ["2"]}, "aliases: rule regex does not take them"),
        ({"rule": "match", "aliases": {}}, {}, "aliases: stands in the rule already"),
        ("match", {"x": ["y" * 11_000]}, "rule: longer than"),
    ],
)
def test_a_rule_that_cannot_judge_is_refused_with_its_field(
    written: Any, aliases: Any, message: str
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        parse_rule(written, aliases)


def test_a_pattern_takes_time_in_proportion_to_the_answer() -> None:
    """Backtracking would try 2 ** 4000 ways."""
    assert judge("a" * 3_999 + "!", ["(a|aa|a*)*b"], "regex").wrong
    assert judge("b" + "a" * 4_000, ["b.*"], "regex").wrong  # longer than is tried
