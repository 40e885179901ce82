"""The bundle of a model that is a mere shape: it loads, and its self-test expects nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.serving import Serving, chat, gate, random_bundle
from benchmarks.shapes import write_shape
from probes.model.folder import read_bundle
from service.gate.parity import tolerance_of


def test_its_readouts_are_about_nothing(tmp_path: Path) -> None:
    load = Serving("llava-1.5-7b", toy=True)
    model = write_shape(load.shape, tmp_path / load.shape, toy=True)
    bundle = read_bundle(random_bundle(load, model, tmp_path / "bundle"))
    assert (bundle.model.hidden_size, bundle.model.engine) == (64, "vllm")
    assert len(bundle.golden) == 2
    largest = bundle.probe.project(np.full(64, 1000.0))
    assert 0 < np.abs(largest).max() < tolerance_of("float32")


def test_more_arguments_are_for_the_gate_alone(tmp_path: Path) -> None:
    load = Serving("llava-1.5-7b", toy=True, gate_arguments={"renderer_num_workers": 4})
    told = json.loads(gate(load, tmp_path, tmp_path / "bundle").settings["VLM_GATE_VLLM_ARGUMENTS"])
    assert told == {"load_format": "dummy", "block_size": 32, "renderer_num_workers": 4}
    command = chat(load, tmp_path).command
    assert "--block-size=32" in command
    assert not any("renderer" in word for word in command)
