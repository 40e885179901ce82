"""What one caller's answers cost while another attacks: costly bodies and images, bodies half sent.

Two keys, the fake engine, 127.0.0.1 only. One key asks a question after the other, first alone,
then while the other key attacks; `/healthz` is asked beside it. Ends with 1 unless the 99th
percentile stays within three times its quiet value, `/healthz` within 100 ms, and the memory of the
service within one and a half times.

    python deploy/loadtest/neighbours.py --seconds 60

On a machine that others use the waits of its processor are in the figures: `--tries 3` runs an
attack again until it holds, three times at most.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
from client import fake_service, picture
from PIL import Image

from service.access.key_file import new_key, save_keys, utc_now

MOST_RATIO, MOST_HEALTH_SECONDS, MOST_MEMORY_RATIO = 3.0, 0.1, 1.5
CONNECTIONS = 96


@dataclass(frozen=True)
class Measured:
    """Answers of the caller that does not attack, and the service's memory."""

    answers: int
    refused: int
    p50_ms: float
    p99_ms: float
    health_p99_ms: float
    health_worst_ms: float
    memory_mib: float


@dataclass(frozen=True)
class Service:
    """A process of the service."""

    pid: int
    port: int
    attacker: str
    caller: str


WHOLE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "charset": lambda: (
        "multipart/form-data; boundary=x; charset=punycode",
        b'--x\r\nContent-Disposition: form-data; name="question"\r\n\r\n'
        + b"a" * 1_000_000
        + b"\r\n--x--\r\n",
    ),
    "fields": lambda: (
        "application/json",
        b"{" + b",".join(b'"f%06d":1' % number for number in range(1_200_000)) + b"}",
    ),
    "large": lambda: (
        "application/json",
        b'{"question": "a?", "image": "' + b"A" * 15_900_000 + b'"}',
    ),
    "scans": lambda: _form(scans(400)),
    "directories": lambda: _form(directories(100_000)),
}
"""Bodies that cost: a form's field in a charset that takes half a minute, a million fields that
nobody knows, the largest image, each time under another key, and images of many parts."""


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes so often."""
    stored = io.BytesIO()
    Image.open(io.BytesIO(picture(128, 0, "JPEG"))).save(stored, "JPEG", progressive=True)
    whole = stored.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def directories(count: int) -> bytes:
    """A TIFF of so many directories, each of which names the next."""
    fields = [(256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
              (278, 4, 8), (279, 4, 64)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    directory = struct.pack("<H", len(fields)) + entries
    first, size = 8 + 64, len(directory) + 4
    ends = [first + size * number for number in range(1, count)] + [0]
    chained = b"".join(directory + struct.pack("<I", end) for end in ends)
    return struct.pack("<2sHI", b"II", 42, first) + bytes(64) + chained


def _form(image: bytes) -> tuple[str, bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    question = head % (b"question", b"", b"Is it whole?")
    file = head % (b"image", b'; filename="i"', image)
    return "multipart/form-data; boundary=x", question + file + b"--x--\r\n"


def send(service: Service, headers: dict[str, str], body: bytes, *, length: int) -> socket.socket:
    """A request of the attacker's, or the beginning of one."""
    wire = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    lines = {"Host": "localhost", "Connection": "close", "Content-Length": f"{length}"} | headers
    lines["Authorization"] = f"Bearer {service.attacker}"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with suppress(BrokenPipeError, ConnectionResetError):
        wire.sendall(f"POST /v1/answer HTTP/1.1\r\n{head}\r\n".encode() + body)
    return wire


def attack_whole(service: Service, name: str) -> None:
    """One body after the other, as fast as they are refused."""
    kind, body = WHOLE[name]()
    number = 0
    while True:
        number += 1
        headers = {"Content-Type": kind, "Idempotency-Key": f"{threading.get_ident()}-{number}"}
        if name != "large":
            del headers["Idempotency-Key"]
        with send(service, headers, body, length=len(body)) as wire, suppress(OSError):
            while wire.recv(65536):
                pass


def attack_half(service: Service, name: str) -> None:
    """Bodies that are begun: opened again when they are cut off."""
    size = {"half": 1, "half, many bytes": 15_000_000}[name]
    body = b'{"question": "' + b"a" * size
    number = 0
    while True:
        number += 1
        headers = {"Content-Type": "application/json"}
        if size > 1:
            headers["Idempotency-Key"] = f"{threading.get_ident()}-{number}"
        with send(service, headers, body, length=16_000_000) as wire, suppress(OSError):
            wire.settimeout(0.5)
            while True:
                try:
                    if not wire.recv(65536):
                        break
                except TimeoutError:
                    continue


ATTACKS: dict[str, tuple[Callable[[Service, str], None], int]] = {
    "charset": (attack_whole, 2),
    "fields": (attack_whole, 2),
    "large": (attack_whole, 2),
    "scans": (attack_whole, 12),
    "directories": (attack_whole, 2),
    "half": (attack_half, CONNECTIONS),
    "half, many bytes": (attack_half, 60),
}


def attack_all(service: Service, attack: str) -> None:
    """All connections of one attack, until the process is killed."""
    what, count = ATTACKS[attack]
    for _ in range(count):
        threading.Thread(target=what, args=(service, attack)).start()


@contextmanager
def serving() -> Iterator[Service]:
    """The service on the fake engine, with two keys."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        made = [new_key(who, ("answer",), utc_now()) for who in ("attacker", "caller")]
        save_keys(keys, [kept for _, kept in made])
        settings = {"VLM_GATE_API_KEYS_FILE": str(keys), "VLM_GATE_RECORDS_URL": ""}
        with fake_service(settings=settings) as (pid, port):
            yield Service(pid, port, made[0][0], made[1][0])


def memory(pid: int) -> float:
    """Largest resident size so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def measure(service: Service, seconds: float) -> Measured:
    """Ask for so long."""
    image = ("i.jpg", picture(128, 0, "JPEG"))
    key = {"authorization": f"Bearer {service.caller}"}

    def ask(client: httpx.Client) -> httpx.Response:
        data = {"question": "Is it whole?"}
        return client.post("/v1/answer", data=data, files={"image": image}, headers=key)

    answers, health, codes = [], [], []
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client:
        while not answers or time.monotonic() < ends:
            began = time.perf_counter()
            codes.append(ask(client).status_code)
            between = time.perf_counter()
            client.get("/healthz")
            answers.append(between - began)
            health.append(time.perf_counter() - between)
            time.sleep(0.01)
    return Measured(
        answers=codes.count(200),
        refused=len(codes) - codes.count(200),
        p50_ms=round(1e3 * float(np.quantile(answers, 0.5)), 1),
        p99_ms=round(1e3 * float(np.quantile(answers, 0.99)), 1),
        health_p99_ms=round(1e3 * float(np.quantile(health, 0.99)), 1),
        health_worst_ms=round(1e3 * max(health), 1),
        memory_mib=round(memory(service.pid), 1),
    )


def run(attack: str, seconds: float) -> dict[str, object]:
    """Quiet, then attacked, in one process of the service."""
    with serving() as service:
        measure(service, min(3.0, seconds / 2))  # what is imported at first is imported
        quiet = measure(service, seconds / 2)
        attacker = multiprocessing.Process(target=attack_all, args=(service, attack))
        attacker.start()
        attacked = measure(service, seconds)
        attacker.kill()
        attacker.join()
    held = (
        attacked.refused == 0
        and attacked.p99_ms <= MOST_RATIO * quiet.p99_ms
        and attacked.health_p99_ms <= 1e3 * MOST_HEALTH_SECONDS
        and attacked.memory_mib <= MOST_MEMORY_RATIO * quiet.memory_mib
    )
    return {"attack": attack, "holds": held, "quiet": asdict(quiet), "attacked": asdict(attacked)}


def main() -> None:
    """Run the attacks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--attack", action="append", choices=list(ATTACKS))
    parser.add_argument("--tries", type=int, default=1, help="of an attack, until it holds")
    arguments = parser.parse_args()
    held = True
    for attack in arguments.attack or ATTACKS:
        for _ in range(arguments.tries):
            result = run(attack, arguments.seconds)
            print(json.dumps(result), flush=True)
            if result["holds"]:
                break
        held &= bool(result["holds"])
    sys.exit(not held)


if __name__ == "__main__":
    main()
