import pytest

from probes.errors import DataError
from probes.labels import Label, check_references, judge
from probes.labels.rule import LABEL_RULES, parse_rule
from probes.types import Missing
from tests.label_cases import CASES, Case


@pytest.mark.parametrize(
    ("answer", "wrong", "parsed"),
    [
        ("Yes", False, "yes"),
        ("Yes, there is a scratch.", False, "yes"),
        ("I think so: YES", False, "yes"),
        ("no", True, "no"),
        ("nothing", True, "no"),
    ],
)
def test_yes_no(answer: str, wrong: bool, parsed: str) -> None:
    assert judge(answer, ["yes"], "yes_no") == Label(wrong, parsed)


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("a red washer", False),
        ("Red washer.", False),
        ("the crimson washer", False),
        ("red", True),
        ("red washers", True),
        ("", True),
    ],
)
def test_match(answer: str, wrong: bool) -> None:
    assert judge(answer, ["a red washer", "crimson washer"], "match").wrong is wrong


def test_numbers_match_as_words_and_digits() -> None:
    assert judge("Three", ["3"], "match") == Label(False, "3")
    assert judge("3.5", ["35"], "match").wrong


def test_vqa_wants_two_of_ten() -> None:
    references = ["red"] * 2 + ["blue"] + ["green"] * 7
    assert not judge("Red", references, "vqa").wrong  # 2/3
    assert judge("blue", references, "vqa").wrong  # 1/3
    assert not judge("green", references, "vqa").wrong  # min(1, 7/3)
    assert judge("pink", references, "vqa").wrong


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty_answer"),
        ("...", "empty_answer"),
        ("<think>yes", "empty_answer"),
        ("I do not know", "abstention"),
        ("a red washer", "no_parse"),
        ("No. Well, yes", "no_parse"),
        ("I cannot.", "abstention"),
    ],
)
def test_what_is_not_read_is_wrong_with_a_reason(answer: str, reason: str) -> None:
    assert judge(answer, ["yes"], "yes_no") == Label(True, "", Missing(reason))


def test_saying_nothing_is_never_right() -> None:
    assert judge("...", ["yes", "...", "..."], "match").wrong
    assert judge("...", ["...", "...", "..."], "vqa").wrong


def test_an_abstention_is_right_only_as_an_option_of_a_choice() -> None:
    options = {"rule": "choice", "options": ["yes", "no", "cannot tell"]}
    assert not judge("Cannot tell.", ["cannot tell"], parse_rule(options)).wrong
    assert judge("unknown", ["unknown"], "match").unparsed == Missing("abstention")
    with pytest.raises(DataError, match="an abstention is never right"):
        check_references(["unknown"], "match")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule_name}: {case.answer[:40]}")
def test_every_case_of_the_table(case: Case) -> None:
    label = judge(case.answer, case.references, parse_rule(case.rule))
    assert label.wrong is not case.right
    assert (label.parsed == "") == (label.unparsed is not None)


def test_the_table_has_cases_of_every_rule() -> None:
    assert {case.rule_name for case in CASES} == {*LABEL_RULES} - {"ignore"}


@pytest.mark.parametrize(
    ("references", "kind", "message"),
    [
        ([], "match", "references: none given"),
        (["maybe"], "yes_no", "give 'yes' or 'no'"),
        (["yes", "no"], "yes_no", "give 'yes' or 'no'"),
        (["red", "red"], "vqa", "needs at least 3; use rule match"),
        (["red"], "fuzzy", "rule: 'fuzzy' is none of yes_no, match"),
        (["red"], "ignore", "rule: ignore judges nothing"),
        (["red"], "number", "give one number each"),
        (["3 or 4"], "number", "give one number each"),
        (["03/04/2025"], "date", "write 2025-04-03 or 2025-04, or give 'order'"),
        (["..."], "match", "hold no word"),
        ([", ,"], "set", "name nothing"),
        (["(a"], "regex", "is no pattern of RE2"),
        ([r"(a)\1"], "regex", "is no pattern of RE2"),
        (["a)|(b"], "regex", "is no pattern of RE2"),
        (["a" * 501], "regex", "longer than 500"),
        (["green"], '{"rule": "choice", "options": ["red", "blue"]}', "one of red, blue"),
    ],
)
def test_references_that_cannot_judge(references: list[str], kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        judge("yes", references, kind)
