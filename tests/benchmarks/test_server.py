"""Servers that benchmarks start: told at once when they cannot be."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.server import Server, free_port
from service.engines.vllm_plugin import SWITCH


def test_it_is_ready(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    server = Server("files", f"http://127.0.0.1:{port}", "/", command)
    with server.running(tmp_path):
        asyncio.run(server.ready())
        assert server.process.poll() is None
    assert server.process.poll() is not None


def test_one_that_ends_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    said = f"import os, sys; print('no model', os.environ.get({SWITCH!r}), os.environ['OURS'])"
    command = (sys.executable, "-c", f"{said}; sys.exit(3)")
    server = Server("gate", f"http://127.0.0.1:{free_port()}", "/readyz", command, {"OURS": "7"})
    with (
        server.running(tmp_path),
        pytest.raises(
            RuntimeError, match=r"(?s)gate is not ready, exit status 3; .*no model None 7"
        ),
    ):
        asyncio.run(server.ready())


def test_its_processor_time_is_its_own(tmp_path: Path) -> None:
    busy = "import subprocess, sys, time; {}; print('done', flush=True); time.sleep(60)"
    work = "sum(range(10**7))"
    child = f"subprocess.run([sys.executable, '-c', {work!r}])"
    spent = {}
    for name, what in (("itself", work), ("child", child)):
        command = (sys.executable, "-c", busy.format(what))
        server = Server(name, "", "", command)
        with server.running(tmp_path):
            while "done" not in server.log_end:
                assert server.process.poll() is None
            spent[name] = server.cpu_seconds
    assert 0 < spent["child"] < spent["itself"]
