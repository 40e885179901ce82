import math

import numpy as np
import pytest

from probes.signals.confidence import measure_confidence
from probes.types import Missing, TokenConfidence, Trace


def test_the_mean_of_the_logprobs_and_the_first_token() -> None:
    trace = Trace(np.log(np.array([0.5, 0.25])), first_token_entropy=0.4, first_token_margin=1.9)
    found = measure_confidence(trace)
    assert isinstance(found, TokenConfidence)
    assert found.mean_logprob == pytest.approx(1.5 * math.log(0.5))
    assert (found.first_token_entropy, found.margin) == (0.4, 1.9)


def test_an_empty_answer_has_none() -> None:
    assert measure_confidence(Trace(np.empty(0), 0.4, 1.9)) == Missing("empty_answer")


@pytest.mark.parametrize(
    "trace",
    [
        Trace(np.array([-np.inf]), 0.4, 1.9),
        Trace(np.array([-1.0]), math.nan, 1.9),
        Trace(np.array([-1.0]), 0.4, math.inf),
    ],
)
def test_overflow_is_missing_and_not_a_number(trace: Trace) -> None:
    assert measure_confidence(trace) == Missing("not_finite")
