import math

import pytest

from probes.signals.consistency import completed_consistency, measure_consistency
from probes.types import Missing, SelfConsistency
from tests.label_cases import CASES, Case


def test_ten_samples_by_hand() -> None:
    samples = ["yes"] * 4 + ["Yes."] * 2 + ["no"] * 3 + ["two"]
    assert measure_consistency("Yes", samples, planned=10) == SelfConsistency(
        agreement=0.6,
        samples=10,
        stopped_early=False,
        majority_share=0.6,
        entropy=pytest.approx(-(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))),
    )


def test_the_majority_may_disagree_with_the_greedy_answer() -> None:
    found = measure_consistency("3", ["2", "2", "2", "3"], planned=10)
    assert isinstance(found, SelfConsistency)
    assert (found.agreement, found.majority_share, found.stopped_early) == (0.25, 0.75, True)


def test_agreement_of_one_mind_has_no_entropy() -> None:
    found = measure_consistency("no", ["no"] * 5, planned=5)
    assert isinstance(found, SelfConsistency)
    assert found.entropy == 0.0
    assert math.copysign(1.0, found.entropy) == 1.0


def test_missing() -> None:
    assert measure_consistency("yes", [], planned=10) == Missing("no_samples")
    assert measure_consistency("...", ["!"], planned=10) == Missing("empty_answer")


def test_more_samples_than_planned() -> None:
    with pytest.raises(ValueError, match="samples: 2 drawn but only 1 planned"):
        measure_consistency("yes", ["yes", "no"], planned=1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule_name}: {case.answer[:40]}")
def test_every_case_of_the_table_agrees_or_not(case: Case) -> None:
    """With its reference as the greedy answer; no rule is known."""
    found = measure_consistency(case.references[0], [case.answer], planned=1)
    if isinstance(found, Missing):  # the reference itself gives no answer
        assert (found, case.agrees) == (Missing("empty_answer"), False)
    else:
        assert found.agreement == case.agrees


@pytest.mark.parametrize(
    ("greedy", "sample", "agrees"),
    [
        ("two", "2", True),
        ("2", "There are two.", True),
        ("Yes, there is", "yes.", True),
        ("yes", "There is one.", True),
        ("No, none.", "There is not a dog.", True),
        ("no", "not no", False),
        ("No", "No parking", False),
        ("No parking", "No stopping", False),
        ("No. 5", "No. 7", False),
        ("5 mm", "5 cm", False),
        ("5 mm", "5mm", True),
        ("a red washer", "Red washer", True),
        ("<think>yes</think>no", "No.", True),
        ("exit A", "exit", False),
        ("yes", "I do not know", False),
    ],
)
def test_answers_that_say_the_same_agree(greedy: str, sample: str, agrees: bool) -> None:
    found = measure_consistency(greedy, [sample], planned=1)
    assert isinstance(found, SelfConsistency)
    assert found.agreement == agrees


def test_an_abstention_agrees_with_nothing() -> None:
    assert measure_consistency("I don't know", ["I don't know"], 1) == Missing("empty_answer")


@pytest.mark.parametrize("greedy", ["yes", "No, there is none", "two", "3 mm", "a red washer"])
def test_further_samples_are_the_greedy_answer_or_none_that_came_before(greedy: str) -> None:
    found = completed_consistency(greedy, [greedy, "?"], 8, agreeing=2, others=3)
    assert isinstance(found, SelfConsistency)
    assert (found.agreement, found.samples, found.stopped_early) == (3 / 7, 7, True)
    assert found.entropy == pytest.approx(-(3 / 7 * math.log(3 / 7) + 4 / 7 * math.log(1 / 7)))
