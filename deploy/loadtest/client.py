"""A load generator that costs next to nothing: raw HTTP/1.1 on kept connections, 127.0.0.1 only."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOST = "127.0.0.1"
KEPT_SECONDS = 3.0
"""An idle connection is opened anew: the server closes those that idle for five seconds."""


@dataclass(frozen=True)
class Reply:
    """What came back, and how long it took. Status 0: the connection broke."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


def picture(side: int, number: int, kind: str = "PNG") -> bytes:
    """A file of side x side pixels that looks like a photograph to a compressor."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(40, 220, (side // 8, side // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    noisy = smooth + rng.integers(0, 4, smooth.shape, dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(noisy).save(stored, kind)
    return stored.getvalue()


def request_bytes(image: bytes, question: str, headers: Mapping[str, str] | None = None) -> bytes:
    """``POST /v1/answer`` as a form upload."""
    boundary = "----loadtest"
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="question"\r\n\r\n{question}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + image
        + f"\r\n--{boundary}--\r\n".encode()
    )
    lines = {
        "host": HOST,
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(len(body)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/answer HTTP/1.1\r\n{head}\r\n".encode() + body


class Connection:
    """One kept connection; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def send(self, request: bytes) -> Reply:
        """Send and wait for the whole reply; a broken connection is opened anew next time."""
        begun = time.perf_counter()
        if begun - self._used > KEPT_SECONDS:
            self.close()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(HOST, self._port)
            reader, writer = self._streams
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in head[1:])
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Reply(0, {}, b"", time.perf_counter() - begun)
        if headers.get("connection") == "close":
            self.close()
        self._used = time.perf_counter()
        return Reply(int(head[0].split()[1]), headers, body, time.perf_counter() - begun)

    def close(self) -> None:
        """Close it if it is open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextmanager
def fake_service(
    latency_seconds: float = 0.0, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """Run the service until the block ends; gives its process id and port once it is ready."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("VLM_GATE_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")])),
        "VLM_GATE_ENGINE": "fake",
        "VLM_GATE_HOST": HOST,
        "VLM_GATE_PORT": "0",
        **(settings or {}),
    }
    script = HERE / "fake_service.py"
    with tempfile.TemporaryDirectory() as folder:
        environment.setdefault("VLM_GATE_STATE_FOLDER", folder)
        log = Path(folder) / "log"  # a file: reading it would take the processor's time
        with log.open("w") as output:
            service = subprocess.Popen(
                [sys.executable, str(script), "--latency-seconds", str(latency_seconds)],
                stderr=output,
                env=environment,
            )
        try:
            yield service.pid, _port_when_ready(service, log)
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()


def _port_when_ready(service: subprocess.Popen[bytes], log: Path) -> int:
    while service.poll() is None:
        told = log.read_text()
        found = re.search(r"listening on http://[\d.]+:(\d+)", told)
        if found is not None and '"event": "ready"' in told:
            return int(found.group(1))
        time.sleep(0.05)
    raise RuntimeError(f"the service did not start: {log.read_text()}")


def _family(pid: int) -> list[int]:
    """A service and the processes that decode for it."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for one in lists for child in one.read_text().split())]


def cpu_seconds(pid: int) -> float:
    """Processor time that a service has used so far, all its threads and processes."""
    ticks = 0
    for one in _family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of a service that is in RAM now, pages that its processes share counted for each."""
    pages = (int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in _family(pid))
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
