"""What counting one answer costs: ``python -m benchmarks.telemetry``. Prints JSON.

Everything that a request adds to the metrics is counted: the answer with all its signals, stages
and an exemplar, and the HTTP request. ``scrape_seconds`` is one exposition of it all.
"""

from __future__ import annotations

import json
from time import perf_counter, process_time

import numpy as np

from probes.types import (
    AttentionConcentration,
    Decision,
    Domain,
    Generation,
    HiddenStateProbe,
    ImageDomain,
    Missing,
    RiskAssessment,
    SelfConsistency,
    Signals,
    TokenConfidence,
    Trace,
)
from service.gate.ask import Outcome
from service.gate.stages import Stages
from service.observe.telemetry import Telemetry

REQUESTS, BATCHES = 2000, 10
STAGES = ("queue", "decode", "generate", "measure", "sample", "decide", "record")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def outcome() -> Outcome:
    """An answer with every signal that there is."""
    signals = Signals(
        hidden_state_probe=HiddenStateProbe(-1.5, (6,)),
        token_confidence=TokenConfidence(-0.2, 0.4, 1.9),
        self_consistency=SelfConsistency(0.8, 10, False, 0.8, 0.5),
        attention=AttentionConcentration(3.1, 0.71, 0.4, 2),
        evidence=Missing("not_supported"),
        domain=Domain((ImageDomain(1.2, inside=False),)),
    )
    trace = Trace(np.array([-0.2]), 0.4, 1.9)
    return Outcome(
        Generation("yes", (5,), "stop", trace, 0.0, 0.04),
        RiskAssessment(0.04, 2, signals),
        Decision("accept", "risk_below_threshold", 0.07, 0.6, "c-1"),
        Missing("no_certificate"),
    )


def seconds_per_request(telemetry: Telemetry) -> float:
    """Processor time, mean over :data:`REQUESTS`."""
    answer, stages = outcome(), Stages()
    for stage in STAGES:
        stages.add(stage, 0.004)
    metadata = {"line": "3", "camera": "A"}
    began = process_time()
    for _ in range(REQUESTS):
        telemetry.observe(answer, stages, "enforce", metadata=metadata, trace_id="0af7651916cd43dd")
        telemetry.requests.labels("/v1/answer", "200").inc()
    return (process_time() - began) / REQUESTS


def main() -> None:
    telemetry = Telemetry({"accept_below": 0.07, "reject_above": 0.6}, "enforce", ("line:3",))
    batches = sorted(seconds_per_request(telemetry) for _ in range(BATCHES))
    began = perf_counter()
    body, _ = telemetry.exposition(OPENMETRICS)
    result = {
        "best_microseconds_per_request": round(1e6 * batches[0], 1),
        "median_microseconds_per_request": round(1e6 * batches[BATCHES // 2], 1),
        "scrape_seconds": round(perf_counter() - began, 5),
        "scrape_bytes": len(body),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
