"""The service as a process: a real socket, a real SIGTERM, and `vlm-gate ask` against it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from probes.model.folder import write_bundle
from probes.model.policy import Policy
from service.cli import app

ROOT = Path(__file__).parents[3]


@contextmanager
def process(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`vlm-gate serve` on the fake engine and a free port; gives it and its first line."""
    names = {f"VLM_GATE_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLM_GATE_")}
    started = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve"],
        cwd=ROOT,
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "VLM_GATE_ENGINE": "fake",
            "VLM_GATE_PORT": "0",
            "VLM_GATE_BUNDLE": str(folder),
            "VLM_GATE_STATE_FOLDER": str(folder.parent / "state"),
            **names,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None
    try:
        yield started, started.stderr.readline()
    finally:
        started.kill()
        started.communicate()


def until_ready(started: subprocess.Popen[str]) -> None:
    """Read the log up to the line that says so."""
    assert started.stderr is not None
    for line in started.stderr:
        if '"event": "ready"' in line:
            return
    pytest.fail("the service ended before it was ready")


@pytest.fixture
def folder(bundled, tmp_path) -> Path:
    saved(bundled, tmp_path / "bundle")
    return tmp_path / "bundle"


def saved(bundled, folder: Path, **identity: str) -> None:
    """A bundle on disk, in manual mode: a certificate would have to name the id it gets there."""
    bundle = bundled(policy=Policy(mode="manual", accept_below=0.5, reject_above=0.95))
    model = replace(bundle.model, **identity)
    write_bundle(replace(bundle, model=model, attempts=(), alpha=None), folder)


def test_serve_answers_refuses_and_ends_with_0_on_sigterm(folder, png, tmp_path):
    image = tmp_path / "plate.png"
    image.write_bytes(png)
    run = CliRunner()
    with process(folder) as (started, first):
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", first)
        assert found is not None
        url = found.group(1)
        until_ready(started)

        asked = run.invoke(app, ["ask", str(image), "Is there a scratch?", "--url", url])
        assert asked.exit_code == 0, asked.output
        for word in ("answer", "risk", "decision", "reason", "certificate"):
            assert word in asked.stdout
        assert re.search(r"risk +0\.\d{3} \(accepted up to 0\.500\)", asked.stdout)

        # A body over the limit is answered, not cut off, and the next request is served.
        large = httpx.post(f"{url}/answer", content=bytes(30_000_000), timeout=60)
        assert (large.status_code, large.json()["field"]) == (413, "body")
        assert httpx.get(f"{url}/readyz").status_code == 200

        image.write_text("no image")
        refused = run.invoke(app, ["ask", str(image), "Is there a scratch?", "--url", url])
        assert refused.exit_code == 1
        assert "422" in refused.stderr

        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
    gone = run.invoke(app, ["ask", str(image), "q", "--url", url])
    assert gone.exit_code == 1
    assert "vlm-gate serve" in gone.stderr


def test_draining_it_is_unready_and_still_answers_and_lets_connections_go(folder, png):
    asked = {"data": {"question": "Is it whole?"}, "files": {"image": png}}
    with process(folder, drain_seconds="600") as (started, first):
        url = first.split()[2]
        until_ready(started)
        with httpx.Client(base_url=url) as client:
            before = client.post("/answer", **asked)
            started.send_signal(signal.SIGTERM)
            while (ready := client.get("/readyz")).status_code == 200:
                continue
            after = client.post("/answer", **asked)
        assert ready.json()["state"] == "draining"
        assert [before.status_code, after.status_code] == [200, 200]
        assert "connection" not in before.headers
        assert after.headers["connection"] == "close"
        assert started.poll() is None
        started.send_signal(signal.SIGTERM)  # a second one ends the wait
        assert started.wait(60) == 0


def test_the_log_holds_neither_question_nor_answer(folder, png):
    with process(folder) as (started, first):
        url = first.split()[2]
        until_ready(started)
        question = {"question": "Is the secret valve open?"}
        assert httpx.post(f"{url}/answer", data=question, files={"image": png}).status_code == 200
        started.send_signal(signal.SIGTERM)
        log = started.communicate(timeout=60)[1]
    assert '"route": "/answer"' in log
    assert '"decision": ' in log
    assert "secret" not in log


def test_what_cannot_be_served_stops_the_start_with_one_line(folder):
    with process(folder, host="0.0.0.0") as (started, first):
        assert started.wait(60) == 1
    assert "VLM_GATE_ALLOW_UNAUTHENTICATED" in first

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with process(folder, port=port) as (started, first):
            assert started.wait(60) == 1
    assert f"127.0.0.1:{port}" in first

    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"0", b"1", 1))
    with process(folder) as (started, first):
        assert started.wait(60) == 1
    assert first.startswith("error: manifest.json")


def test_a_bundle_of_another_model_stops_the_start_by_its_field(bundled, tmp_path):

    saved(bundled, tmp_path / "bundle", revision="other")
    with process(tmp_path / "bundle") as (started, _):
        log = started.communicate(timeout=60)[1]
        assert started.returncode == 1
    assert "error: model.revision" in log
    assert "Traceback" not in log


def closed(url: str) -> bool:
    """Whether no new connection is taken; a try costs what a request does."""
    try:
        httpx.get(f"{url}/readyz")
    except httpx.TransportError:
        return True
    return False


def test_a_second_signal_does_not_wait(folder, png):
    """The first waits for a body that never ends, up to the deadline; the second does not."""
    with process(folder, deadline_seconds="600") as (started, first):
        port = int(first.split()[2].rpartition(":")[2])
        until_ready(started)
        for number in range(10):
            asked = {"question": f"Is plate {number} whole?"}
            url = f"http://127.0.0.1:{port}"
            assert httpx.post(f"{url}/answer", data=asked, files={"image": png}).status_code == 200
        with socket.create_connection(("127.0.0.1", port)) as slow:
            head = f"POST /v1/answer HTTP/1.1\r\nHost: localhost:{port}\r\n"
            kind = "Content-Type: application/json\r\nContent-Length: 1000\r\n"
            slow.sendall(f"{head}{kind}Expect: 100-continue\r\n\r\n".encode())
            assert slow.recv(64).startswith(b"HTTP/1.1 100")  # it is inside, and reads
            started.send_signal(signal.SIGTERM)
            assert started.stderr is not None
            assert any(closed(url) for _ in range(1000))  # it drains
            assert started.poll() is None
            started.send_signal(signal.SIGTERM)
            assert started.wait(30) == 0
    with closing(sqlite3.connect(folder.parent / "state" / "records.db")) as records:
        assert records.execute("SELECT count(*) FROM answers").fetchone() == (10,)


def test_with_keys_it_listens_to_all_and_a_wrong_key_reads_its_401(folder, png, tmp_path):
    keys, image, run = tmp_path / "keys.json", tmp_path / "plate.png", CliRunner()
    image.write_bytes(png)
    create = ["keys", "create", "--file", str(keys), "--name", "line 3", "--scope", "answer"]
    key = run.invoke(app, create).stdout.strip()
    with process(folder, host="0.0.0.0", api_keys_file=str(keys)) as (started, first):
        url = first.split()[2].replace("0.0.0.0", "127.0.0.1")
        until_ready(started)
        ask = ["ask", str(image), "Is there a scratch?", "--url", url]
        assert run.invoke(app, ask, env={"GATE_API_KEY": key}).exit_code == 0
        assert "401 Unauthorized" in run.invoke(app, ask).stderr
        # Refused before its body is read, and answered all the same.
        wrong = {"authorization": f"Bearer {key[:-1]}_"}
        refused = httpx.post(f"{url}/answer", content=bytes(12_000_000), headers=wrong, timeout=60)
        assert refused.status_code == 401
        assert run.invoke(app, ["keys", "revoke", "--file", str(keys), key[3:15]]).exit_code == 0
        assert "revoked" in run.invoke(app, ask, env={"GATE_API_KEY": key}).stderr
