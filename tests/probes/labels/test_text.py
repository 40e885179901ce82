"""The forms in which answers are compared."""

from __future__ import annotations

import pytest

from probes.labels.numerals import as_digits, quantities
from probes.labels.text import match_form, normalise, spoken
from probes.labels.vqa_text import vqa_form


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Yes. ", "yes"),
        ("Yes,there  IS", "yes there is"),
        ("It's a red\twasher!", "its a red washer"),
        ("3.5 mm", "3.5 mm"),
        ("-2", "-2"),
        ("top-left", "top left"),
        ("part_7", "part 7"),
        ("ＦＵＬＬ width", "full width"),
        ("?!", ""),
        ("C#", "c #"),
        ("A- and B+", "a − and b +"),
        ("1,000,000 of 5%", "1000000 of 5 %"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The red washer", "red washer"),
        ("a", "a"),
        ("the", "the"),
        ("exit A", "exit a"),
        ("exit A north", "exit a north"),
        ("two hundred and five thousand and one", "205001"),
        ("thirty three", "33"),
        ("nineteen ninety", "19 90"),
        ("salt and pepper", "salt and pepper"),
    ],
)
def test_match_form(text: str, expected: str) -> None:
    assert match_form(text) == expected


def test_a_thousand_and_more_numbers_as_words() -> None:
    words = "one thousand two hundred and thirty four and five"
    assert as_digits(words.split()) == [
        "1234",
        "and",
        "5",
    ]


def test_quantities_keep_their_unit() -> None:
    found = [str(one) for one in quantities("3.50 mm minus 2 ° 1.2.3 m12 5mm")]
    assert found == ["3.5 mm", "-2 °", "5 mm"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<think>no</think> yes", "yes"),
        ("<think>no", ""),
        ("no</think>yes", "yes"),
        ("<Thinking>\nno\n</Thinking>\nyes", "yes"),
        ("<answer> yes </answer>", "yes"),
        ("**Final Answer:** yes", "** yes"),
        ("The answer is: yes", "yes"),
        ("The answers are yes", "The answers are yes"),
    ],
)
def test_only_what_is_said_at_the_end_counts(answer: str, said: str) -> None:
    assert spoken(answer) == said


@pytest.mark.parametrize(
    ("text", "form"),
    [
        # Lower case, number words to ten, articles, contractions without their apostrophe.
        ("Yes", "yes"),
        ("The Dog", "dog"),
        ("an apple a day", "apple day"),
        ("none", "0"),
        ("zero", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("somebody'd", "somebodyd"),
        ("twas", "'twas"),
        ("im", "im"),
        ("lets", "lets"),
        # Punctuation: a blank between words, nothing beside a blank.
        ("t-shirt", "t shirt"),
        ("red/blue", "red blue"),
        ("what ?", "what"),
        ("hello, world", "hello world"),
        ("(red)", "red"),
        ("left -right", "left right"),
        ("a-b - c", "ab c"),
        # A comma between digits makes all punctuation vanish; full stops go, not in 3.5.
        ("1,000", "1000"),
        ("1,000 t-shirts", "1000 tshirts"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("3.", "3"),
        ("it's", "it's"),
        ("9:30", "9:30"),
        ("black & white", "black & white"),
        ("two\nlines\there", "2 lines here"),
        # Here alone articles by themselves stay.
        ("A", "a"),
        ("the", "the"),
        ("?", ""),
    ],
)
def test_vqa_form(text: str, form: str) -> None:
    assert vqa_form(text) == form
