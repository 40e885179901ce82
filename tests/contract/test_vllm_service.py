"""The service on vLLM from end to end: collected, rebound, served, drained, and its engine killed.

Processes of their own throughout, as deployed: vLLM's engine core is a child of each.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from probes.data.store import Store, load
from probes.model.folder import read_bundle
from probes.types import Missing
from service.cli import app
from service.settings import embedded
from testbed.dataset import write_dataset

ROOT = Path(__file__).parents[2]
SCENES, QUESTIONS = 3, 2
LIMIT_SECONDS = 240
VLLM = {
    "VLM_GATE_DTYPE": "float32",
    "VLM_GATE_ENGINE": "vllm",
    "VLM_GATE_VLLM_ENFORCE_EAGER": "true",
    "VLM_GATE_VLLM_MAX_NUM_SEQS": "16",
    "VLM_GATE_VLLM_ARGUMENTS": '{"block_size": 32}',
}


@contextmanager
def gate(*words: str | Path, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """`vlm-gate` with these words and settings; it does not outlive the block."""
    own = {f"VLM_GATE_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", *words],
        env={**os.environ, **VLLM, "OMP_NUM_THREADS": "1", **own},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    """With all that it started."""
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)


def finished(process: subprocess.Popen[str]) -> str:
    """What it printed; it must have gone well."""
    output, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, output[-3000:]
    return output


def session_of(leader: int) -> dict[int, str]:
    """Processes of a session that run: id and command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(") ")[2].split()[:4]
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state != "Z":
            found[int(folder.name)] = words
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, "line", range(700_000, 700_000 + SCENES), QUESTIONS)
    return folder / "questions.jsonl"


@dataclass(frozen=True)
class Made:
    """What was collected through either engine, and the bundle bound to vLLM."""

    through: dict[str, Store]
    bundle: Path
    told: str


@pytest.fixture(scope="module")
def made(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    with (
        gate("collect", dataset, "--out", folder / "vllm", "--samples", "2") as ours,
        gate(
            "bundle", "rebind", embedded("bundles", "llava"), "--out", folder / "bundle"
        ) as rebound,
    ):
        words = ["collect", str(dataset), "--out", str(folder / "transformers"), "--samples", "2"]
        theirs = CliRunner().invoke(app, words)
        assert theirs.exit_code == 0, theirs.output
        told = finished(rebound)
        finished(ours)
    stores = {engine: load(folder / engine) for engine in ("vllm", "transformers")}
    return Made(stores, folder / "bundle", told)


def test_collected_through_vllm_it_is_the_same_store(made: Made) -> None:
    ours, theirs = made.through["vllm"], made.through["transformers"]
    assert (ours.setup.model.engine, theirs.setup.model.engine) == ("vllm", "transformers")
    assert ours.setup.readouts == theirs.setup.readouts
    assert len(ours.records) == len(theirs.records) == SCENES * QUESTIONS
    for one, other in zip(ours.records, theirs.records, strict=True):
        for name in ("id", "answer", "wrong", "tokens", "finish_reason"):
            assert getattr(one, name) == getattr(other, name), name
        assert len(one.samples) == 2
        for signal_ in ("confidence", "attention"):
            found, expected = getattr(one, signal_), getattr(other, signal_)
            assert not isinstance(found, Missing)
            for name in expected.__dataclass_fields__:
                assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-3)
    for place in ours.setup.readouts:
        found, expected = (s.hidden(place).astype(np.float32) for s in (ours, theirs))
        # 1e-3, and what float16 rounds away.
        assert np.abs(found - expected).max() <= 1.5e-3 * np.abs(expected).max(), place
    np.testing.assert_array_equal(ours.arrays.present, theirs.arrays.present)
    np.testing.assert_allclose(ours.arrays.attention, theirs.arrays.attention, atol=1e-3)


def test_the_bundle_is_bound_to_vllm_and_promises_nothing(made: Made) -> None:
    before, bundle = read_bundle(Path(embedded("bundles", "llava"))), read_bundle(made.bundle)
    assert bundle.model.engine == "vllm"
    assert bundle.id != before.id
    assert bundle.attempts == ()
    assert f"{bundle.id}: golden readouts deviate by" in made.told
    for one, other in zip(bundle.golden, before.golden, strict=True):
        assert one.answer == other.answer
        for place, expected in other.readouts.items():
            assert np.abs(one.readouts[place] - expected).max() <= 1e-3 * np.abs(expected).max()


@dataclass
class Served:
    """A service that is ready, with its processes, and what it told."""

    process: subprocess.Popen[str]
    client: httpx.Client
    children: dict[int, str]
    state: Path
    log: list[str]
    told: Counter[tuple[int, str]] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)

    def ask(self, question: dict[str, str], folder: Path, **options: str) -> httpx.Response:
        """One question with its image."""
        reply = self.client.post(
            "/answer",
            data={"question": question["question"], **options},
            files={"image": (folder / question["image"]).read_bytes()},
        )
        kind = "" if reply.is_success else reply.json()["type"].rpartition(":")[2]
        self.told[reply.status_code, kind] += 1
        if reply.is_success:
            self.ids.append(reply.json()["id"])
        return reply

    def ask_at_once(
        self, pool: ThreadPoolExecutor, asked: list[dict[str, str]], folder: Path
    ) -> list[Future[httpx.Response]]:
        """Questions with samples, once all are in flight; the engine core stands still then."""
        os.kill(self.core, signal.SIGSTOP)  # or they may be answered before they are seen
        replies = [pool.submit(self.ask, one, folder, self_consistency="always") for one in asked]
        while f"vlm_gate_inflight_requests {len(asked)}.0" not in self.metrics:
            assert not any(one.done() for one in replies)
            time.sleep(0.02)
        return replies

    @property
    def core(self) -> int:
        """vLLM's engine core."""
        (core,) = [pid for pid, words in self.children.items() if "EngineCore" in words]
        return core

    @property
    def metrics(self) -> str:
        """As Prometheus reads them."""
        return self.client.get("/metrics").text

    def recorded(self) -> list[str]:
        """The ids in its records."""
        with closing(sqlite3.connect(self.state / "records.db")) as records:
            return sorted(one for (one,) in records.execute("SELECT id FROM answers"))

    def ends(self, code: int) -> None:
        """Wait for the process and for all that it started."""
        assert self.process.wait(LIMIT_SECONDS) == code, self.log[-20:]
        end = time.monotonic() + 20
        while left := session_of(self.process.pid):  # another process sets no event
            assert time.monotonic() < end, left
            time.sleep(0.02)


@contextmanager
def serving(bundle: Path, state: Path) -> Iterator[Served]:
    """`vlm-gate serve` with vLLM, once it is ready."""
    settings = {"bundle": bundle, "state_folder": state, "port": 0, "decode_processes": 1}
    ends = {"drain_seconds": 2, "engine_exit_seconds": 3}
    with gate("serve", **settings, **ends) as process:
        assert process.stdout is not None
        lines: list[str] = []
        url = ""
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"listening on (\S+)", line):
                url = found.group(1)
            if '"event": "ready"' in line:
                break
        else:
            pytest.fail("".join(lines)[-3000:])
        reading = threading.Thread(target=lines.extend, args=(process.stdout,))
        reading.start()
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                yield Served(process, client, session_of(process.pid), state, lines)
        finally:
            kill(process)
            reading.join()


@pytest.fixture(scope="module")
def two(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    """Two services, started at once."""
    folder = tmp_path_factory.mktemp("serving")
    opened = [serving(made.bundle, folder / name) for name in ("first", "second")]
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        yield list(pool.map(stack.enter_context, opened))


def questions(dataset: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in dataset.read_text().splitlines()]


def test_it_answers_and_drains(two: list[Served], dataset: Path) -> None:
    served, asked = two[0], questions(dataset)
    reply = served.ask(asked[0], dataset.parent, self_consistency="always")
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert told["signals"]["self_consistency"]["samples"] >= 1
    assert 0 < told["signals"]["attention"]["top30_mass"] <= 1
    assert told["signals"]["hidden_state_probe"]["logit"] is not None
    assert 0 <= told["risk"]["score"] <= 1
    metrics = served.metrics
    for line in (
        "vlm_gate_attention_top30_mass_count 1.0",
        "vlm_gate_self_consistency_agreement_count 1.0",
        'vlm_gate_stage_duration_seconds_count{stage="sample"} 1.0',
        "vlm_gate_engine_healthy 1.0",
    ):
        assert line in metrics, line
    with ThreadPoolExecutor(16) as pool:
        replies = served.ask_at_once(pool, asked * 2, dataset.parent)
        served.process.send_signal(signal.SIGTERM)
        os.kill(served.core, signal.SIGCONT)
        assert [one.result().status_code for one in replies] == [200] * len(replies)
    served.ends(0)
    assert served.recorded() == sorted(served.ids)


def test_its_engine_core_is_killed(two: list[Served], dataset: Path) -> None:
    served, asked = two[1], questions(dataset)
    assert served.ask(asked[0], dataset.parent).status_code == 200
    with ThreadPoolExecutor(32) as pool:
        replies = served.ask_at_once(pool, asked * 5, dataset.parent)
        os.kill(served.core, signal.SIGKILL)
        for one in replies:
            one.result()
    ready = served.client.get("/readyz")
    assert (ready.status_code, ready.json()["state"]) == (503, "failed")
    assert served.ask(asked[0], dataset.parent).status_code == 503
    assert set(served.told) <= {(200, ""), (503, "engine_error")}
    assert served.told[503, "engine_error"] > 1
    served.ends(1)
    assert served.recorded() == sorted(served.ids)
    assert any("error: the engine has failed" in line for line in served.log)
