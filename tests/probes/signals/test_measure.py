from dataclasses import dataclass, fields

import numpy as np

from probes.model.probe import LinearProbe
from probes.signals.domain import DomainModel
from probes.signals.image_features import IMAGE_FEATURES
from probes.signals.measure import measure
from probes.signals.question import QuestionModel
from probes.signals.question_kind import KindModel
from probes.types import (
    AttentionMaps,
    Generation,
    Missing,
    Query,
    Readout,
    Trace,
)


@dataclass(frozen=True)
class Instruments:
    probe: LinearProbe
    domain: DomainModel
    questions: QuestionModel | Missing
    kinds: KindModel | None = None


PROBE = LinearProbe(
    layer=1,
    position="prompt_last",
    weights=np.ones(3),
    intercept=0.0,
    mean=np.zeros(3),
    scale=np.ones(3),
    components=np.eye(3)[:1],
)
ASKED = QuestionModel(("Is there a dent?",), (1,), 5.0, "any")
WIDTH = 1 + len(IMAGE_FEATURES)
INSTRUMENTS = Instruments(PROBE, DomainModel(np.zeros(WIDTH), np.eye(WIDTH), 1e3, 1), ASKED)
QUERY = Query(np.full((16, 16, 3), 90, dtype=np.uint8), "Is there a dent?")
ROWS = np.full((1, 4), 0.1)
TRACE = Trace(
    logprobs=np.array([-0.2]),
    first_token_entropy=0.4,
    first_token_margin=1.9,
    readouts={(1, "prompt_last"): np.array([0.5, 0.1])},
    attention=AttentionMaps((1,), ROWS, ROWS, (2, 2)),
)
ANSWER = Generation("yes", (7,), "stop", TRACE)


def test_every_signal_is_measured() -> None:
    signals = measure(QUERY, ANSWER, INSTRUMENTS)
    missing = {f.name for f in fields(signals) if isinstance(getattr(signals, f.name), Missing)}
    assert missing == {"self_consistency", "evidence", "question_kind"}
    assert signals.self_consistency == Missing("not_requested")


def test_an_empty_answer_keeps_what_the_prompt_tells() -> None:
    silent = Generation("", (), "stop", Trace(np.empty(0), 0.4, 1.9, TRACE.readouts))
    signals = measure(QUERY, silent, INSTRUMENTS)
    assert signals.token_confidence == Missing("empty_answer")
    assert not isinstance(signals.hidden_state_probe, Missing)
    assert signals.attention == Missing("not_requested")


def test_an_engine_that_reads_nothing_leaves_reasons() -> None:
    assert Readout().layers == ()
    signals = measure(QUERY, Generation("yes", (7,), "stop", Trace(np.array([-0.2]), 0.4, 1.9)),
                      INSTRUMENTS)  # fmt: skip
    assert signals.hidden_state_probe == Missing("not_collected")
    assert signals.domain == Missing("not_collected")
