"""A service of our own on a free loopback port, for the demo and the benchmark."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.settings import PREFIX

START_SECONDS = 180.0
STOP_SECONDS = 40.0
_LISTENING = re.compile(r"listening on (http://\S+)")


class LocalServiceError(Exception):
    """The service did not come up; holds the end of its log."""


@contextmanager
def local_service() -> Iterator[str]:
    """Run ``vlm-gate serve`` until the block ends; gives its URL once it is ready.

    Raises:
        LocalServiceError: it ended, or was not ready in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {f"{PREFIX}PORT": "0", f"{PREFIX}STATE_FOLDER": folder}
        environment = {**os.environ, **own}
        for name in ("API_KEYS_FILE", "JWT_JWKS", "JWT_ISSUER", "JWT_AUDIENCE"):
            environment.pop(PREFIX + name, None)  # it is ours alone, and asked without a key
        log = Path(folder) / "service.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            yield _wait_until_ready(process, log)
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        text = log.read_text(errors="replace")
        if process.poll() is not None:
            raise LocalServiceError(f"the service ended with {process.returncode}:\n{text[-2000:]}")
        if (found := _LISTENING.search(text)) and _is_ready(found.group(1)):
            return found.group(1)
        time.sleep(0.1)
    raise LocalServiceError(f"not ready in {START_SECONDS:g} s:\n{log.read_text()[-2000:]}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
