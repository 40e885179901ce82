from __future__ import annotations

from dataclasses import replace

import numpy as np

from probes.signals.margin import measure_margins
from probes.types import LensMargins, Missing, Trace

TRACE = Trace(logprobs=np.array([-0.5]), first_token_entropy=0.1, first_token_margin=1.0)
LENS = LensMargins((1, 2), top=np.array([0.5, 1.5]), yes_no=np.array([-2.0, 3.0]))
READ = replace(TRACE, lens=LENS)


def margins(trace: Trace, parsed: str) -> list[float]:
    found = measure_margins(trace, parsed)
    assert not isinstance(found, Missing)
    return found.tolist()


def test_the_margin_is_that_of_the_answer_given() -> None:
    assert margins(READ, "yes") == [-2.0, 3.0]
    assert margins(READ, "no") == [2.0, -3.0]
    assert margins(READ, "three red gears") == [0.5, 1.5]


def test_why_there_is_none() -> None:
    assert measure_margins(TRACE, "yes") == Missing("not_requested")
    blind = replace(READ, lens=replace(LENS, yes_no=Missing("no_yes_no_token")))
    assert measure_margins(blind, "no") == Missing("no_yes_no_token")
    assert margins(blind, "red") == [0.5, 1.5]
    broken = replace(READ, lens=replace(LENS, top=np.array([0.5, np.inf])))
    assert measure_margins(broken, "red") == Missing("not_finite")
