"""Collection is killed at any moment, goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probes.data.store import MANIFEST, Store, load

EXAMPLES = 120
SCRIPT = """
import asyncio, sys
from pathlib import Path
from probes.data.collect import collect
from probes.data.datasets import load_dataset
from probes.types import GenerationSettings
from service.engines.fake import FakeEngine

async def go():
    engine = FakeEngine(layers=4, hidden_size=int(sys.argv[3]), latency_seconds=float(sys.argv[4]))
    await engine.start()
    examples, _ = load_dataset(Path(sys.argv[1]) / "questions.jsonl")
    settings = GenerationSettings(max_tokens=8, samples=2)
    print("ready", flush=True)
    await collect(examples, engine, Path(sys.argv[2]), generation=settings, shard_size=8)

asyncio.run(go())
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng, lines = tmp_path_factory.mktemp("crash") / "data", np.random.default_rng(0), []
    folder.mkdir()
    for number in range(EXAMPLES):
        pixels = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        record = {"image": f"{number}.png", "question": "Is it?", "answers": ["yes"]}
        lines.append(json.dumps(record))
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return folder


def start(
    dataset: Path, out: Path, width: int = 64, latency: float = 0.02
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(dataset), str(out), str(width), str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait(timeout=60)


def same(one: Store, other: Store) -> None:
    assert one.records == other.records
    for place in one.setup.readouts:
        np.testing.assert_array_equal(one.hidden(place), other.hidden(place))
    assert one.fingerprint == other.fingerprint


def test_killed_again_and_again_it_ends_as_an_uninterrupted_run(
    dataset: Path, tmp_path: Path
) -> None:
    assert finish(start(dataset, tmp_path / "whole")) == 0
    whole = load(tmp_path / "whole")
    assert len(whole.records) == EXAMPLES
    rng, out, killed, shards = random.Random(7), tmp_path / "killed", 0, []
    while killed < 6:
        process = start(dataset, out)
        time.sleep(rng.uniform(0.0, 0.35))  # the moment of the blow, not a synchronisation
        process.send_signal(signal.SIGKILL)
        if finish(process) == 0:
            break
        killed += 1
        if (out / MANIFEST).exists():
            shards.append(len(json.loads((out / MANIFEST).read_text())["shards"]))
    assert killed >= 3
    assert shards == sorted(shards)  # nothing that was finished is lost
    assert finish(start(dataset, out)) == 0
    same(load(out), whole)
    assert [record.id for record in load(out).records] == [one.id for one in whole.records]


def test_a_half_written_file_is_no_obstacle(dataset: Path, tmp_path: Path) -> None:
    """Killed between any two steps of writing: with only the first one's leavings in the folder."""
    out = tmp_path / "run"
    out.mkdir()
    (out / f".{MANIFEST}.part").write_text('{"format"')
    (out / ".shard-00000.safetensors.part").write_bytes(b"half")
    assert finish(start(dataset, out, latency=0.0)) == 0
    assert len(load(out).records) == EXAMPLES


def test_a_run_is_hardly_larger_than_its_float16_features(dataset: Path, tmp_path: Path) -> None:
    """At a 7 B model's width; four layers at three positions."""
    assert finish(start(dataset, tmp_path / "run", width=4096, latency=0.0)) == 0
    store = load(tmp_path / "run")
    features = len(store.records) * len(store.setup.readouts) * 4096 * 2
    written = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
    assert features < written <= 1.05 * features
