"""Answers that a person would not take for the reference, and plain ones beside them."""

from __future__ import annotations

import pytest

from probes.labels import judge
from probes.labels.rule import parse_rule
from probes.labels.sameness import answer_form

_CHOICE = '{"rule": "choice", "options": {"A": "red", "B": "blue"}}'
_NOT_RIGHT = {
    ("yes_no", "no"): """
        The dent is not small.|The scratch is not very deep.|It is not undamaged.|It isn't unbroken.
        Not without a scratch.|No part is without a scratch.|The part is never without dents.
        No fewer than three scratches.|No shortage of dents here.|There is no end of scratches.
        It is wrong to say there is no dent.|It is false that there is no dent.|No sweat.
        The lens is not clean.|My camera does not work.|The scratch does not matter.|No exceptions.
        This isn't a yes/no question.|It is not a question I answer.|None of your business
        Nothing but scratches everywhere.|No. Just kidding.|No... actually hmm|No, uh|No parking.
        Nobody would deny the dent.|No one but you can say.|Do not trust me: dent.
        The dent is not on the left, it is on the right.|The label is not red, it is blue.
        It isn't the label that is dented, the housing is.|Ignore that. No part was checked.
        Not that I'd bet on it.|never seen a bigger dent|No sooner said than done
    """,
    ("yes_no", "yes"): """
        Sure, send the picture|Certainly! Upload the image|Certainly, provide more detail
        Of course, show it to me|Absolutely, go ahead|Right.. where is the picture
        Agreed, it is missing (the dent)|There is too much glare to tell|There is a lot of glare
        I see a blank screen|I see a lot of noise|I see a problem with the question
        Yes, it used to|Yes, almost|Yes, once|yes-ish|Yes-men would agree.
        Yes is what you want to hear.|Yes was the answer yesterday|I wish I could say yes
        There is reason to doubt it|There is room for a dent|There are two possibilities
        there is one way to find out|There is a need for another photo
        There are screws, but the one you mean is gone|There are rules against that
    """,
    ("number", "3"): """
        page 3|step 3|option 3|figure 3|row 3|Zone 3|type 3|size 3|version 3|chapter 3|class 3
        3 pm|3 am|three o'clock|3-ish|3 is too many|3 each|3 per side|3 per cent|3 per mille
        3 tens|3D|a 3 pointed star|the three of us|in three steps|give me three seconds
        I counted to 3 and gave up|M 3|3^2|3 m per tooth|gate 3
    """,
    ("number", "1"): """
        one moment please|it's a one-off|One should look closer|for one, it is blurry
    """,
    ("number", "0"): "I see zero reason to answer|zero in on it|zero point in asking",
    ("number", "5"): ".5|-.5|about .5|.5 mm|,5|5 · 10³|5 x 10³|10⁵",
    ("number", "5 mm"): ".5 mm|5 Mm|5 mm²|−.5 mm",
    ("number", "99"): "$.99|.99|€ .99",
    ("number", '3"'): "3'|3 ft|3 mm|.3\"",
    ("match", "5"): ".5|-.5|$.5",
    ("match", '3"'): "3'|3",
    ("match", "62"): "6'2\"|6'2|6²",
    ("match", "x2"): "x²|x^2|x-2",
    (_CHOICE, "A"): """
        option A was eliminated|Option A is too dark|A is too dark|The red one is a distractor
        choice A looks odd|red is out|A seems off
    """,
    ("date", "2025-04-03"): """
        2025-04-03 is wrong|from 2025-04-03|2025-04-03±1d|unless 2025-04-03|3 April 2025 BC
        2025-04-03T00:00Z/2025-05-03|Batch 2025-04-03 expired 2026|2025-04-03, I made that up
        2025-04-03 was yesterday's label|starting 2025-04-03|2025-04-03 minus a bit
    """,
    ("set", "nut, bolt"): "nut, bolt ...|nut, bolt…|nut, bolt ..|nut and bolt, …",
}  # fmt: skip
_RIGHT = {
    ("yes_no", "no"): """
        No scratches are visible.|None visible.|There's nothing there.|The label is not missing.
        The plate does not have a scratch.|The image does not show a dog.|It is not a dog.
        There is no dog in the image. The image shows a cat.|No, nothing is missing.|No damage.
        No, the label is not tilted, it is straight.|No. The plate is intact.|It is not small.
        Not that I can see.|No, it is undamaged.
    """,
    ("yes_no", "yes"): """
        Yes the label is tilted|Sure, there is one.|Correct, yes|Yes, but it is small|yes a scratch
        There are two screws.|I see a dent.|Yes, one is missing: the left|Yes it is
    """,
    ("number", "3"): """
        I can see 3 small black screws.|3 screws are missing|3 is the answer|Total: 3
        The plate has 3 screws and they are black.|It's 3|three of them|Number of screws: 3
        Es sind 3 Schrauben|Il y a 3 vis|Hay 3 tornillos|3 visible screws|3 km/h|3 m/s
    """,
    ("number", "3 mm"): "Length 3 mm|3 MM|The gap measures 3.0 mm across",
    ("number", "0.5 mm"): ".5 mm|0.5mm|,5 mm",
    ("number", "3 mm2"): "3 mm²|3mm²|3 mm^2",
    ("number", '3"'): "3 inches|3''|3 in|3 ″",
    ("match", "0.5 inch"): ".5 inch|0.5 inch",
    ("match", "x^2"): "x²|X^2",
    ("match", "5"): '"5"|\'5\'|5.',
    (_CHOICE, "A"): "The answer is A|Option A is right|The red one|red is correct",
    ("set", "nut, bolt"): "nut, bolt.|bolt and nut",
}  # fmt: skip


def _listed(table: dict[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    return [
        (rule, reference, answer.strip())
        for (rule, reference), answers in table.items()
        for answer in answers.strip().replace("\n", "|").split("|")
    ]


@pytest.mark.parametrize(("rule", "reference", "answer"), _listed(_NOT_RIGHT))
def test_not_right(rule: str, reference: str, answer: str) -> None:
    assert judge(answer, [reference], parse_rule(rule)).wrong


@pytest.mark.parametrize(("rule", "reference", "answer"), _listed(_RIGHT))
def test_right(rule: str, reference: str, answer: str) -> None:
    assert not judge(answer, [reference], parse_rule(rule)).wrong


@pytest.mark.parametrize(
    ("greedy", "sample"),
    [("5", ".5"), (".5", "5"), ("5 mm", ".5 mm"), ('3"', "3'"), ("3", "page 3"), ("x2", "x²")],
)
def test_samples_that_say_another_thing(greedy: str, sample: str) -> None:
    form = answer_form(greedy)
    assert form(sample) != form(greedy)


def test_a_reference_may_be_a_name_of_the_number() -> None:
    assert not judge("3", ["size 3"], "number").wrong
