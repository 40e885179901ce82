import pytest

from probes.signals.question_words import skeleton


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is there a dent on the housing?", "Can you spot a dent on this housing?"),
        ("Is there a dent on the housing?", "Any dents visible on the housing?"),
        ("Is there a scratch?", "Do you notice some scratches?"),
        ("Is there a scratch?", "Tell me if there is a scratch in the image."),
        ("Is there a scratch?", "is there a scratch"),
        ("Is there a scratch?", "I'd like to know whether you see a scratch"),
        ("Is there a scratch?", "There's a scratch, right?"),
        ("How many screws are there?", "What's the number of screws?"),
        ("How many screws are there?", "Please count the screws."),
        ("What color is the label?", "Which colour does the label have?"),
        ("What color is the label?", "What is the label's color?"),
        ("What color is the label?", "Tell me the color of the label."),
        ("Is the seal left of the hole?", "Is the seal on the left side of the hole?"),
        ("Is the seal left of the hole?", "Is the seal to the left of the hole?"),
    ],
)
def test_other_words_for_the_same_question(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is there a scratch?", "Is there no scratch?"),
        ("Is there a scratch?", "Isn't there a scratch?"),
        ("Is there a scratch?", "Isn’t there a scratch?"),
        ("Is there a scratch?", "Is there a triangle?"),
        ("Is there a scratch?", "Where is the scratch?"),
        ("Is there a scratch?", "How many scratches are there?"),
        ("Is there a scratch?", "What is a scratch?"),
        ("Is there a screw?", "Is there only one screw?"),
        ("Is the screw above the seal?", "Is the seal above the screw?"),
        ("Is the screw above the seal?", "Is the screw under the seal?"),
        ("Is there a screw?", "IS THERE A SCREW?"),
        ("Is there a screw?", "Ist da ein screw?"),
        ("Is there a screw?", "Is there a screw and a seal?"),
        ("Is there a screw?", "?"),
        ("Is there a screw?", "Screw"),
        ("Is there a screw?", "The screw."),
    ],
)
def test_another_question(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@pytest.mark.parametrize("text", ["", "   ", "?!", "\N{GRINNING FACE}", "有螺丝吗？", "a" * 2000])
def test_anything_has_a_skeleton(text: str) -> None:
    assert skeleton(text)[0].startswith("#")
