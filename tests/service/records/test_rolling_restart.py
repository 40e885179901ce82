"""Three replicas behind HAProxy on one PostgreSQL: a rolling restart under load loses nothing.

HAProxy retries nothing here, so each request that a replica refuses or cuts off is seen.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from probes.guarantee.betting import Ladder
from probes.guarantee.learn_then_test import certify
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.folder import write_bundle
from probes.monitor.audit import choose_audit
from service.records.head import SigningKey
from service.records.verify import verify

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
CLIENTS = 6
PAUSE_SECONDS = 0.05
"""Between an answer and a client's next question, so that three replicas can start beside them."""
AUDIT_RATE = 0.2
Frame = Callable[[object], bytes]
LIMIT_SECONDS = 300

HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  retries 0
frontend gate
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Replica:
    """A `vlm-gate serve` on the fake engine that can be started again on the same port."""

    def __init__(self, folder: Path, url: str) -> None:
        kept = {name: v for name, v in os.environ.items() if not name.startswith("VLM_GATE_")}
        settings = {
            "ENGINE": "fake",
            "BUNDLE": str(folder / "bundle"),
            "STATE_FOLDER": str(folder / "state"),  # as a Secret mounted in every replica
            "RECORDS_URL": url,
            "AUDIT_RATE": str(AUDIT_RATE),
            "DRAIN_SECONDS": "1",
        }
        self._environment = {**kept, "PYTHONPATH": str(ROOT)} | {
            f"VLM_GATE_{name}": value for name, value in settings.items()
        }
        self.port = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve"],
            cwd=ROOT,
            env={**self._environment, "VLM_GATE_PORT": str(self.port)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    async def ready(self) -> None:
        """Wait for the log's line that says so; the rest of the log is read, too, and let go."""
        log = self.process.stderr
        assert log is not None

        def until_ready() -> None:
            for line in log:
                if found := re.search(r"listening on \S+:(\d+)", line):
                    self.port = int(found.group(1))
                if '"event": "ready"' in line:
                    return
            pytest.fail("the service ended before it was ready")

        await asyncio.to_thread(until_ready)
        self._rest = asyncio.create_task(asyncio.to_thread(log.read))

    async def stop(self) -> int:
        """Ask it to end, as Kubernetes does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        await self._rest
        status = await asyncio.to_thread(self.process.wait, LIMIT_SECONDS)
        self.kill()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def bundle(bundled: Callable[..., Bundle], tmp_path: Path) -> Bundle:
    """Certified on two hundred right answers, for the id that it gets when saved."""
    made = write_bundle(replace(bundled(), attempts=(), alpha=None), tmp_path / "bare")
    certificate = certify(
        np.full(200, 0.4),
        np.zeros(200, dtype=bool),
        np.array([str(number) for number in range(200)]),
        Ladder(np.array([0.5]), np.array([0.9]), 1),
        alpha=0.05,
        delta=0.05,
        self_consistency="never",
        samples=0,
        bundle=made.id,
        model="fake",
        data="d",
        created=datetime.now(UTC),
        valid_days=30,
    )
    attempt = CertificateAttempt(0.05, "never", certificate)
    return write_bundle(replace(made, alpha=0.05, attempts=(attempt,)), tmp_path / "bundle")


@contextmanager
def load_balancer(folder: Path, replicas: list[Replica]) -> Iterator[str]:
    """HAProxy over the replicas; gives its address."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("there is no HAProxy here: `make system` installs it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = "\n".join(f"  server s{one.port} 127.0.0.1:{one.port}" for one in replicas)
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, servers=servers))
    with (folder / "haproxy.log").open("w") as log:
        started = subprocess.Popen([program, "-db", "-f", config], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(LIMIT_SECONDS)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask other processes again and again; fails after the limit."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def is_up(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def ask_on(
    client: httpx.AsyncClient, frame: Frame, name: int, done: asyncio.Event, told: list[Any]
) -> None:
    """A client that keeps its connection and asks until told to stop; what came is kept."""
    number = 0
    while not done.is_set():
        number += 1
        question = {
            "question": f"Is part {name}-{number} whole?",
            "self_consistency": "never",
        }
        try:
            sent = {"image": frame(f"{name}-{number}")}
            told.append(await client.post("/v1/answer", data=question, files=sent))
        except httpx.TransportError as error:
            told.append(error)
        await asyncio.sleep(PAUSE_SECONDS)


async def certificate_of(client: httpx.AsyncClient) -> str:
    """What a replica says of the default mode's certificate: its id, or why there is none."""
    body = (await client.get("/v1/policy")).json()
    told: str = body["certificates"]["never"].get("missing", "stands")
    return told


async def audits_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """All audits that a replica lists, over its pages."""
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.get("/v1/answers", params={"reason": "audit", **after})).json()
        found += page["answers"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


async def metrics_of(client: httpx.AsyncClient, name: str) -> list[str]:
    text = (await client.get("/metrics")).text
    return [line for line in text.splitlines() if line.startswith(name)]


async def agree(clients: list[httpx.AsyncClient], told: list[Any], folder: Path) -> None:
    """Audits are drawn alike and listed alike; judged wrong, they void the certificate for all."""
    secret = (folder / "state" / "audit-secret").read_bytes()
    drawn = {one["id"] for one in told if one["reason"] == "audit"}
    accepted = [one["id"] for one in told if one["decision"] == "accept"]
    assert drawn
    assert all(choose_audit(one, AUDIT_RATE, secret).selected for one in drawn)
    assert not any(choose_audit(one, AUDIT_RATE, secret).selected for one in accepted)

    lists = [await audits_of(client) for client in clients]
    assert {one["id"] for one in lists[0]} == drawn
    assert lists[1:] == [lists[0]] * 2
    assert [await certificate_of(client) for client in clients] == ["stands"] * 3

    for number, audit in enumerate(sorted(drawn)):
        body = {"id": audit, "correct": False, "reviewer": "ann"}
        reply = await clients[number % 3].post("/v1/outcomes", json=body)
        assert reply.status_code == 200

    async def void() -> bool:
        return [await certificate_of(one) for one in clients] == ["certificate_void"] * 3

    async def same_numbers() -> bool:
        errors = [await metrics_of(one, "vlm_gate_audit_error_ratio{") for one in clients]
        return bool(errors[0]) and errors[1:] == [errors[0]] * 2

    await until(void)
    await until(same_numbers)
    for client in clients:
        assert await metrics_of(client, "vlm_gate_certificate_valid") == [
            "vlm_gate_certificate_valid 0.0"
        ]


async def test_a_rolling_restart_loses_no_request_and_no_record(
    postgres, tmp_path: Path, bundle: Bundle, frame: Frame, open_store
) -> None:
    url = postgres.empty_database()
    async with asyncio.timeout(LIMIT_SECONDS):
        with ExitStack() as stack:
            replicas = [Replica(tmp_path, url) for _ in range(3)]
            for replica in replicas:
                stack.callback(replica.kill)
            await asyncio.gather(*(replica.ready() for replica in replicas))
            balanced = stack.enter_context(load_balancer(tmp_path, replicas))

            told: list[Any] = []
            done = asyncio.Event()
            async with httpx.AsyncClient(base_url=balanced, timeout=LIMIT_SECONDS) as client:
                await until(lambda: is_up(client))
                asking = [
                    asyncio.create_task(ask_on(client, frame, name, done, told))
                    for name in range(CLIENTS)
                ]
                for replica in replicas:
                    before = len(told)
                    assert await replica.stop() == 0
                    replica.start()
                    await replica.ready()
                    assert len(told) > before  # the others answered meanwhile
                done.set()
                await asyncio.gather(*asking)
                lost = [one for one in told if getattr(one, "status_code", None) != 200]
                assert [getattr(one, "text", one) for one in lost] == []

            async with AsyncExitStack() as open_clients:
                clients = [
                    await open_clients.enter_async_context(
                        httpx.AsyncClient(base_url=replica.address, timeout=LIMIT_SECONDS)
                    )
                    for replica in replicas
                ]
                await agree(clients, [one.json() for one in told], tmp_path)
            assert [await replica.stop() for replica in replicas] == [0, 0, 0]

    key = SigningKey.load_or_create(tmp_path / "state" / "signing-key.pem")
    store = open_store(url, key=key, migrated=False)
    assert [one for one in told if store.get(one.json()["id"]) is None] == []
    report = verify(store)
    assert report.ok, report.problems
