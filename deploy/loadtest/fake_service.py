"""The real service on an engine without a model, whose capacity is known.

    python deploy/loadtest/fake_service.py --latency-seconds 0.05

Answers take ``latency-seconds`` each, so ``VLM_GATE_MAX_INFLIGHT`` divided by it is the capacity in
answers per second, as long as the processor keeps up. Settings are read from the environment.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from probes.model.bundle import Bundle, Golden
from probes.model.calibration import PlattMap
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.risk import RiskModel
from probes.signals.domain import DomainModel
from probes.signals.image_features import image_features
from probes.types import GenerationSettings, Missing, Query
from service.app import create_app
from service.engines.fake import FakeEngine
from service.http.server import Server, bind
from service.observe.logs import configure
from service.settings import load_settings

COMPONENTS = 16


def fake_bundle(engine: FakeEngine) -> Bundle:
    """A bundle in manual mode, of the usual size, whose domain takes every image."""
    wide = engine.identity.hidden_size
    numbers = np.random.default_rng(0)
    probe = LinearProbe(
        layer=2,
        position="answer_last",
        weights=numbers.normal(size=wide).astype(np.float32),
        intercept=0.0,
        mean=np.zeros(wide, dtype=np.float32),
        scale=np.ones(wide, dtype=np.float32),
        components=numbers.normal(size=(COMPONENTS, wide)).astype(np.float32),
    )
    query = Query(np.zeros((8, 8, 3), dtype=np.uint8), "Is it whole?")
    read = engine.state(query, probe.layer, probe.position) @ probe.projection
    dimensions = COMPONENTS + image_features(query.image).size
    return Bundle(
        id="b-loadtest",
        model=engine.identity,
        generation=GenerationSettings(),
        attention_layers=(1, 2, 3, 4),
        probe=probe,
        stage_one=RiskModel(("probe_logit",), np.array([0.5]), 0.0, PlattMap(1.0, 0.0)),
        stage_two=Missing("not_collected"),
        domain=DomainModel(np.zeros(dimensions), np.eye(dimensions), 1e9, COMPONENTS),
        policy=Policy(mode="manual", accept_below=0.5, reject_above=0.95),
        alpha=None,
        attempts=(),
        golden=(Golden(query, "yes", {(probe.layer, probe.position): read}),),
        data="loadtest",
        training={},
    )


def main() -> None:
    """Serve until SIGTERM; the first line on standard error names the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--capacity", type=int, default=4096, help="requests the engine takes")
    asked = parser.parse_args()
    settings = load_settings()
    configure(settings.log_level)
    engine = FakeEngine(latency_seconds=asked.latency_seconds, capacity=asked.capacity)
    app = create_app(settings, engine, fake_bundle(engine))
    with bind(settings) as listening:
        host, port = listening.getsockname()[:2]
        print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
        Server(app, settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
