import math

import pytest

from probes.signals.consistency import measure_consistency, normalise
from probes.types import Missing, SelfConsistency


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
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


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
