import numpy as np
import pytest

from probes.model.probe import LinearProbe
from probes.signals.hidden import measure_probe, project
from probes.types import FloatArray, HiddenStateProbe, Missing, Trace

PROBE = LinearProbe(
    layer=4,
    position="answer_last",
    weights=np.array([1.0, -2.0, 0.5]),
    intercept=0.25,
    mean=np.array([1.0, 2.0, 3.0]),
    scale=np.array([1.0, 2.0, 0.5]),
    components=np.array([[1.0, 0.0, 0.0]]),
)
HIDDEN = np.array([2.0, 6.0, 4.0])  # standardised: 1, 2, 2


def trace(readout: FloatArray | Missing) -> Trace:
    return Trace(np.array([-0.1]), 0.1, 2.0, readouts={(4, "answer_last"): readout})


def test_a_logit_by_hand() -> None:
    found = measure_probe(trace(HIDDEN), PROBE)
    assert found == HiddenStateProbe(logit=pytest.approx(0.25 + 1.0 - 4.0 + 1.0), layers=(4,))


def test_served_and_collected_readouts_agree() -> None:
    whole = project(trace(HIDDEN.astype(np.float32)), PROBE)
    served = project(trace((HIDDEN @ PROBE.projection).astype(np.float32)), PROBE)
    assert isinstance(whole, np.ndarray)
    assert isinstance(served, np.ndarray)
    np.testing.assert_allclose(served, whole, atol=1e-5)
    np.testing.assert_allclose(whole, [-1.75, 1.0], atol=1e-9)


def test_missing() -> None:
    assert measure_probe(trace(Missing("empty_answer")), PROBE) == Missing("empty_answer")
    assert measure_probe(trace(np.array([np.nan, 0.0])), PROBE) == Missing("not_finite")
    unread = Trace(np.array([-0.1]), 0.1, 2.0, readouts={(3, "answer_last"): HIDDEN})
    assert measure_probe(unread, PROBE) == Missing("not_collected")


def test_a_readout_of_another_bundle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"readouts\[4, 'answer_last'\]: shape \(5,\)"):
        measure_probe(trace(np.zeros(5)), PROBE)
