import pytest

from probes.errors import DataError
from probes.labels import Label, is_wrong


@pytest.mark.parametrize(
    ("answer", "wrong", "parsed"),
    [
        ("Yes", False, "yes"),
        ("Yes, there is a scratch.", False, "yes"),
        ("I think so: YES", False, "yes"),
        ("no", True, "no"),
        ("No. Well, yes", True, "no"),
        ("I do not know", True, ""),
        ("nothing", True, ""),
        ("", True, ""),
    ],
)
def test_yes_no(answer: str, wrong: bool, parsed: str) -> None:
    assert is_wrong(answer, ["yes"], "yes_no") == Label(wrong, parsed)


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
    assert is_wrong(answer, ["a red washer", "crimson washer"], "match").wrong is wrong


def test_numbers_match_as_words_and_digits() -> None:
    assert is_wrong("Three", ["3"], "match") == Label(False, "3")
    assert is_wrong("3.5", ["35"], "match").wrong


def test_vqa_wants_two_of_ten() -> None:
    references = ["red"] * 2 + ["blue"] + ["green"] * 7
    assert not is_wrong("Red", references, "vqa").wrong  # 2/3
    assert is_wrong("blue", references, "vqa").wrong  # 1/3
    assert not is_wrong("green", references, "vqa").wrong  # min(1, 7/3)
    assert is_wrong("pink", references, "vqa").wrong


@pytest.mark.parametrize("kind", ["match", "vqa"])
def test_saying_nothing_is_never_right(kind: str) -> None:
    assert is_wrong("the", ["the", "a", "..."], kind).wrong


@pytest.mark.parametrize(
    ("references", "kind", "message"),
    [
        ([], "match", "references: none given"),
        (["maybe"], "yes_no", "give 'yes' or 'no'"),
        (["yes", "no"], "yes_no", "give 'yes' or 'no'"),
        (["red", "red"], "vqa", "needs at least 3; use rule match"),
        (["red"], "fuzzy", "kind: unknown label rule 'fuzzy'"),
    ],
)
def test_references_that_cannot_judge(references: list[str], kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        is_wrong("yes", references, kind)
