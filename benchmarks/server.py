"""A server that a benchmark starts and ends: when it is ready, and why it is not."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.host import ROOT
from service.engines.vllm_plugin import SWITCH

START_SECONDS = 240.0
LOG_END = 3000
"""Characters."""


@dataclass(slots=True)
class Server:
    """A server of our own.

    Args:
        name: in the results.
        url: its address.
        health: path that says 200 once it takes requests.
        command: that starts it.
        settings: environment variables besides our own.
    """

    name: str
    url: str
    health: str
    command: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    log: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        """Start it, with its log in the folder; it ends with the block."""
        self.log = folder / f"{self.name}.log"
        # An engine that ran in this process has asked for the plugin; each server is to ask itself.
        inherited = {name: text for name, text in os.environ.items() if name != SWITCH}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT,
                env={**inherited, **self.settings}, cwd=ROOT,
            )  # fmt: skip
        try:
            yield
        finally:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    async def ready(self) -> None:
        """Wait until it takes requests. Raises RuntimeError with the end of its log."""
        end = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient() as client:
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    response = await client.get(f"{self.url}{self.health}", timeout=2)
                except httpx.TransportError:
                    response = None
                if response is not None and response.status_code == 200:
                    return
                if response is not None and '"failed"' in response.text:
                    break  # the gate's self-test
                await asyncio.sleep(0.5)
        raise RuntimeError(
            f"{self.name} is not ready, exit status {self.process.poll()}; "
            f"its log ends:\n{self.log_end}"
        )

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the process so far, user's and system's, without its children's."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")  # see proc(5)

    @property
    def log_end(self) -> str:
        """The last of what it said."""
        return self.log.read_text(errors="replace")[-LOG_END:]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])
