"""`vlm-gate demo`, for real: a service process, every image, nothing left behind."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_demo_prints_table_and_accuracies_and_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout
    (shown,) = re.findall(r"`make demo` ends with\n\n```\n(.*?)```", README, re.DOTALL)
    assert len(re.findall(r"line 2000\d\d", text)) >= 24
    assert len(re.findall(r"\.(?:png|jpg)", text)) >= 6
    every = accuracy(text, r"accuracy of all \d+ answers: ([\d.]+)%")
    accepted = accuracy(text, r"accuracy of the \d+ accepted: ([\d.]+)%")
    assert accepted > every
    assert text.rstrip().splitlines()[-4:] == shown.strip().splitlines()
    port = re.search(r"http://127\.0\.0\.1:(\d+)", text)
    assert port is not None
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", int(port.group(1)))) != 0


def accuracy(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found.group(1))
