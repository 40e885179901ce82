"""Damaged requests to a real service with decoders: no 500, no hang, no growth, and it goes on.

The service is a process on the engine without a model. After each round a good question must get
its answer, ``/readyz`` must be 200, and there must be as many decoders as at the beginning.
"""

from __future__ import annotations

import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.fuzz.damage import damage
from tests.fuzz.readers import READERS

LOADTEST = Path(__file__).parents[2] / "deploy" / "loadtest"
sys.path.append(str(LOADTEST))
from client import fake_service, picture  # noqa: E402

ROUND = 50
"""Damaged requests between two good ones."""
HANG_SECONDS = 45.0
"""Longer than the service's own deadline."""
MOST_GROWTH = 1.5
"""Times the memory that was held once everything had been used."""
WARM_ROUNDS = 20


@dataclass
class Told:
    """What came of it."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    began_mib: int = 0
    memory_mib: int = 0


def requests() -> list[bytes]:
    """Good ones and odd ones, each whole: line, headers, body."""
    png = picture(32, 0)
    forms = [seed.partition(b"\n") for seed in READERS["multipart"].seeds()]
    bodies = [("/v1/answer", kind, body.replace(b"\x89PNG", png)) for kind, _, body in forms]
    for image in READERS["picture"].seeds():
        kind, _, body = forms[0]
        bodies.append(("/v1/answer", kind, body.replace(b"\x89PNG", image)))
    paths = ("/v1/answer", "/v1/chat/completions", "/v1/policy", "/v1/records/x/outcome")
    for seed in READERS["json"].seeds():
        bodies.append((paths[seed[0] % 4], b"application/json", seed[1:]))
        bodies.append(("/v1/answers:batch", b"application/jsonl", seed[1:] + b"\n{}\n"))
    whole = [
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), kind, len(body), body)
        for path, kind, body in bodies
    ]
    paths = ("/healthz", "/readyz", "/metrics", "/v1/policy", "/v1/records?limit=2", "/docs",
             "/v1/records/x", "/openapi.json", "/v1/models", "/v1/records?slice=a'b")  # fmt: skip
    return whole + [
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n\r\n"
        % path.encode()
        for path in paths
    ]


def damaged(seeds: Sequence[bytes], choose: random.Random) -> bytes:
    """The head or the body; a body that was changed mostly gets the length that it has."""
    head, end, body = choose.choice(seeds).partition(b"\r\n\r\n")
    others = [one.partition(b"\r\n\r\n")[2] or one for one in choose.sample(list(seeds), 3)]
    if not body or choose.random() < 0.2:
        return damage(head, others, choose) + end + body
    body = damage(body, others, choose)[:200_000]
    if choose.random() < 0.95:
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head)
    if choose.random() < 0.1:
        head += b"\r\nIdempotency-Key: %d" % choose.randrange(4)
    return head + end + body


def send(port: int, request: bytes) -> list[int]:
    """The statuses of the answers. Raises TimeoutError when the service says nothing more."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS) as wire:
        with suppress(BrokenPipeError, ConnectionResetError):
            wire.sendall(request)
            with suppress(OSError):  # the service closed first
                wire.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := wire.recv(65536):
                got += piece
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]


def _decoders(pid: int) -> int:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return sum(len(one.read_text().split()) for one in lists)


def _memory_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024


def _goes_on(client: httpx.Client, pid: int, decoders: int) -> str | None:
    """Why it does not, once it had the time to replace what died; None if it does."""
    files = {"image": ("i.png", picture(32, 0))}
    told = client.post("/v1/answer", data={"question": "Is it whole?"}, files=files)
    if told.status_code != 200:
        return f"a good question got {told.status_code}: {told.text[:300]}"
    ends = time.monotonic() + HANG_SECONDS
    while time.monotonic() < ends:
        ready = client.get("/readyz").status_code
        if ready == 200 and _decoders(pid) == decoders:
            return None
        time.sleep(0.05)
    return f"/readyz {ready}, {_decoders(pid)} decoders of {decoders}"


def attack(seconds: float, seed: int, out: Path, most: int | None = None) -> Told:
    """Send damaged requests for so long, or so many; what was found lies in ``out``."""
    choose, seeds, told = random.Random(seed), requests(), Told()
    ends = time.monotonic() + seconds
    settings = {"VLM_GATE_DECODE_PROCESSES": "2", "VLM_GATE_DEADLINE_SECONDS": "20"}
    with fake_service(settings=settings) as (pid, port):
        base, decoders = f"http://127.0.0.1:{port}", _decoders(pid)
        with httpx.Client(base_url=base, timeout=HANG_SECONDS) as client:
            while time.monotonic() < ends and (most is None or told.requests < most):
                for _ in range(ROUND):
                    _one(damaged(seeds, choose), port, told, out)
                if (why := _goes_on(client, pid, decoders)) is not None:
                    told.findings.append(f"seed {seed}, request {told.requests}: {why}")
                    break
                told.memory_mib = _memory_mib(pid)
                if told.requests <= WARM_ROUNDS * ROUND:
                    told.began_mib = told.memory_mib
    if told.memory_mib > MOST_GROWTH * told.began_mib:
        told.findings.append(f"memory grew from {told.began_mib} to {told.memory_mib} MiB")
    return told


def _one(request: bytes, port: int, told: Told, out: Path) -> None:
    told.requests += 1
    try:
        statuses = send(port, request)
    except TimeoutError:
        statuses = [0]
    told.statuses.update(statuses)
    if any(status == 0 or status >= 500 for status in statuses):
        kept = out / f"service-{told.requests}"
        kept.write_bytes(request)
        told.findings.append(f"{statuses}: {kept}")


if __name__ == "__main__":
    found = attack(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(found.__dict__ | {"statuses": dict(found.statuses)}))
