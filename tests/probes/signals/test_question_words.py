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
        # whoever asks, and whoever sees
        ("Is there a scratch?", "Could you please tell me whether there is a scratch?"),
        ("Is there a scratch?", "I would like to know if you can see a scratch."),
        ("Is there a scratch?", "I wonder if there is a scratch"),
        ("Is there a scratch?", "Can a scratch be seen?"),
        ("Is there a scratch?", "Are you able to spot a scratch?"),
        ("Is there a scratch?", "Do you happen to see a scratch?"),
        ("Is there a scratch?", "Would you say that there is a scratch?"),
        ("Is the plate scratched?", "Please check the plate for scratches."),
        # the picture
        ("Is there a scratch?", "Looking at the photo, is there a scratch?"),
        ("Is there a scratch?", "Does the picture show a scratch?"),
        ("What color is the label?", "From the image, what color is the label?"),
        ("How many screws are there?", "How many screws does the photo show?"),
        ("What is in the top left corner?", "What is in the top left corner of the image?"),
        # what and how many
        ("What color is the label?", "The label is what color?"),
        ("What color is the label?", "Do you know the color of the label?"),
        ("What color is the label?", "I want to know which color the label has."),
        ("How many screws are there?", "Do you know how many screws there are?"),
        ("How many screws are there?", "How many screws can you count in total?"),
        ("What is above the seal?", "Name the part that sits above the seal."),
        ("What defect is there?", "What kind of defect can be seen?"),
        # one that is missing from somewhere
        ("Does the plate have a missing screw?", "Is a screw missing from the plate?"),
        ("Does the plate have a missing screw?", "Is there any missing screw on the plate?"),
        ("Does the plate have a missing screw?", "Is the plate missing a screw?"),
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
        # other moods and tenses
        ("Is there a screw?", "Should there be a screw?"),
        ("Is there a screw?", "Was there a screw?"),
        ("Is there a screw?", "Will there be a screw?"),
        ("Is there a screw?", "Can there be a screw?"),
        ("Is there a screw?", "Have you seen a screw?"),
        ("Is there a screw?", "If there is a screw?"),
        ("What color is the label?", "What color should the label be?"),
        ("How many screws are there?", "How many screws can the plate hold?"),
        # persons and wishes
        ("Is there a screw?", "Do you need a screw?"),
        ("Is there a screw?", "Would you like a screw?"),
        ("Is there a screw?", "Do I have a screw?"),
        ("Is there a screw?", "Are you a screw?"),
        ("Is there a screw?", "Is it a screw?"),
        ("Is there a screw?", "Is this a screw?"),
        ("Is the label tilted?", "Is my label tilted?"),
        # statements and orders
        ("Is there a screw?", "There is a screw."),
        ("Is there a screw?", "I see a screw."),
        ("Is there a screw?", "Show me a screw."),
        ("How many screws are there?", "Count on the screws."),
        ("What defect is there?", "Name a defect."),
        # quantities, kinds, parts
        ("Is there a screw?", "Is there exactly one screw?"),
        ("Is there a screw?", "Is there just a screw?"),
        ("Is there a screw?", "Is a screw possible?"),
        ("How many screws are there?", "How many kinds of screws are there?"),
        ("How many screws are there?", "Is the number of screws visible?"),
        ("Is the screw above the seal?", "Is the screw just above the seal?"),
        ("What color is the label?", "What has the color of the label?"),
        ("What is left of the seal?", "What is the left of the seal?"),
        ("Is there a screw?", "Is the screw on?"),
        # two questions
        ("Is there a screw?", "Is there a screw? What?"),
        ("How many screws are there?", "Is there a screw? How many?"),
        # the picture as the thing
        ("Is there a screw?", "Is there a picture of a screw?"),
        ("Is the label tilted?", "Is the image tilted?"),
        # no question, words that stutter, another word with the same beginning
        ("Is the plate scratched?", "Scratch the plate?"),
        ("Is the plate screwed?", "Screw plates?"),
        ("Is there a screw?", "Is there really really a screw?"),
        ("Is there a screw?", "Is there there a screw?"),
        ("Is there a screw?", "Is there any that those these this screw?"),
        ("Is there a screw?", "Is there a this screw?"),
        ("Is there a dent on the housing?", "Is there a dent on the housed?"),
        ("Is the housing dented?", "Is the housed denting?"),
        # signs that a model reads otherwise
        ("Is there a screw?", "IS THERE A screw?"),
        ("Is there a screw?", "\uff29s there a screw?"),
        ("Is there a screw?", "Is there a \U0001d42c\U0001d41c\U0001d42b\U0001d41e\U0001d430?"),
        ("Is there a screw?", "Is there a \u0455crew?"),
        ("Is there a screw?", "Is there a screw\u200b?"),
        ("Is there a screw?", "Is there a scr\u00adew?"),
        ("Is there a screw?", "Is there a screw?\x1b"),
        ("Is there a screw?", "Is there a screw? \N{GRINNING FACE}"),
        ("Is there a screw?", "Is there a screw" + "?" * 900),
        ("Is there a screw?", "Is there a" + " " * 900 + "screw?"),
    ],
)
def test_another_question(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@pytest.mark.parametrize("text", ["", "   ", "?!", "\N{GRINNING FACE}", "有螺丝吗？", "a" * 2000])
def test_anything_has_a_skeleton(text: str) -> None:
    assert skeleton(text)[0].startswith("#")
