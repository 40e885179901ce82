from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from probes.judge.examples import pick_examples
from probes.judge.side_by_side import Judged


def run_of(images: list[str], wrong: list[bool]) -> Any:
    records = tuple(
        SimpleNamespace(id=str(at), kind="count", question=f"q{at}?", answer="1", references=("2",))
        for at in range(len(wrong))
    )
    return SimpleNamespace(records=records, wrong=np.array(wrong), groups=np.array(images))


def judged(risk: list[float], doubt: list[float]) -> Judged:
    scores = {"risk": np.array(risk), "token_confidence": np.array(doubt)}
    return Judged(np.ones(len(risk), dtype=bool), scores, {}, 0)


def ids(found: list[dict[str, Any]], group: str) -> list[str]:
    return [one["id"] for one in found if one["group"] == group]


def test_confident_errors_are_the_wrong_ones_of_lowest_risk() -> None:
    store = run_of(["a", "b", "c", "d"], [False, True, True, True])
    found = pick_examples(
        store, judged([0.0, 0.3, 0.1, 0.9], [1, 1, 1, 1]), np.array([True, False, True, False])
    )
    assert ids(found, "confident_error") == ["2", "1", "3"]
    assert [one["accepted"] for one in found[:2]] == [True, False]


def test_rescued_are_those_that_token_confidence_would_have_accepted() -> None:
    """Two are accepted. By token confidence these would be 1 and 2; of them only 2 is wrong."""
    store = run_of(["a", "b", "c", "d"], [False, False, True, True])
    found = pick_examples(
        store,
        judged([0.1, 0.2, 0.8, 0.9], [0.5, 0.1, 0.2, 0.9]),
        np.array([True, True, False, False]),
    )
    assert ids(found, "rescued") == ["2"]
    assert found[-1]["mean_logprob"] == -0.2


def test_one_example_per_image() -> None:
    store = run_of(["a", "a", "b"], [True, True, True])
    found = pick_examples(
        store, judged([0.2, 0.1, 0.3], [0.1, 0.2, 0.3]), np.array([True, True, True])
    )
    assert ids(found, "confident_error") == ["1", "2"]


def test_where_nothing_is_accepted_half_is_compared() -> None:
    store = run_of(["a", "b", "c", "d"], [True, False, False, False])
    found = pick_examples(
        store, judged([0.9, 0.1, 0.2, 0.8], [0.1, 0.2, 0.8, 0.9]), np.zeros(4, dtype=bool)
    )
    assert ids(found, "rescued") == ["0"]
