"""`vlm-gate serve` as a process on the fake engine, and callers that go on asking."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from probes.model.folder import write_bundle
from probes.model.policy import Policy
from service.records.head import SigningKey
from service.records.store import RecordStore
from service.records.tables import answers
from service.records.verify import verify

ROOT = Path(__file__).parents[3]
LIMIT_SECONDS = 60
CALLERS = 4


@dataclass
class Running:
    """A process of the service, ready."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]

    async def ready(self, client: httpx.AsyncClient, code: int, **records: Any) -> dict[str, Any]:
        """Wait until `/readyz` gives this code, and says this of the records."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                told = await client.get("/readyz")
                body: dict[str, Any] = told.json()
                if told.status_code == code and records.items() <= body["records"].items():
                    return body
                await asyncio.sleep(0.02)


@dataclass
class Callers:
    """What those who ask were told so far: ids of answers, and how often which status and type."""

    ids: list[str] = field(default_factory=list)
    told: Counter[tuple[int, str]] = field(default_factory=Counter)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self, count: int, status: int = 200) -> None:
        """Wait until so many more were told this status."""
        wanted = self.count(status) + count
        async with asyncio.timeout(LIMIT_SECONDS):
            while self.count(status) < wanted:
                self._changed.clear()
                await self._changed.wait()

    def count(self, status: int) -> int:
        """How many were told this status."""
        return sum(count for (code, _), count in self.told.items() if code == status)

    async def ask(self, client: httpx.AsyncClient, png: bytes, number: int) -> None:
        """One question."""
        data = {"question": f"Is part {number} whole?"}
        told = await client.post("/v1/answer", data=data, files={"image": png})
        kind = "" if told.status_code == 200 else told.json()["type"].rpartition(":")[2]
        self.told[told.status_code, kind] += 1
        if told.status_code == 200:
            self.ids.append(told.json()["id"])
        self._changed.set()


@pytest.fixture
def start(bundled, tmp_path: Path) -> Callable[..., Any]:
    """Starts the service; keyword arguments are settings, ``program`` another way to start it."""
    bundle = bundled(policy=Policy(mode="manual", accept_below=0.5, reject_above=0.95))
    write_bundle(replace(bundle, attempts=(), alpha=None), tmp_path / "bundle")

    @contextmanager
    def run(
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "service.cli", "serve"),
        **settings: object,
    ) -> Iterator[Running]:
        kept = {n: value for n, value in os.environ.items() if not n.startswith("VLM_GATE_")}
        chosen = {
            "ENGINE": "fake",
            "PORT": "0",
            "BUNDLE": tmp_path / "bundle",
            "STATE_FOLDER": tmp_path / "state",
            **{name.upper(): value for name, value in settings.items()},
        }
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env={
                **kept,
                "PYTHONPATH": str(ROOT),
                **{f"VLM_GATE_{name}": str(value) for name, value in chosen.items()},
                **(environment or {}),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        log: list[str] = []
        reading = threading.Thread(target=log.extend, args=(process.stderr,))
        try:
            found = re.search(r"listening on (\S+)", process.stderr.readline())
            assert found is not None
            for line in process.stderr:
                log.append(line)
                if '"event": "ready"' in line:
                    break
            else:
                pytest.fail(f"the service ended before it was ready: {log}")
            reading.start()
            yield Running(process, found.group(1), log)
        finally:
            process.kill()
            process.wait()
            if reading.ident is not None:
                reading.join()
            process.stderr.close()

    return run


@pytest.fixture
def calling(png: bytes) -> Callable[..., Any]:
    """Callers that ask one question after the other until the block ends."""

    @asynccontextmanager
    async def run(client: httpx.AsyncClient) -> AsyncIterator[Callers]:
        callers, done = Callers(), asyncio.Event()

        async def go_on(first: int) -> None:
            number = first
            while not done.is_set():
                await callers.ask(client, png, number)
                number += CALLERS
                await asyncio.sleep(0.005)  # they leave the service something to breathe

        async with asyncio.TaskGroup() as group:
            for first in range(CALLERS):
                group.create_task(go_on(first))
            yield callers
            done.set()

    return run


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[str], list[str]]:
    """The ids in a database, sorted; its chain must hold."""

    def read(url: str) -> list[str]:
        key = SigningKey.load_or_create(tmp_path / "state" / "signing-key.pem")
        store = RecordStore(url, writer="test", key=key)
        try:
            report = verify(store)
            assert report.ok, report.problems
            with store.reading() as connection:
                return sorted(connection.scalars(select(answers.c.id)))
        finally:
            store.close()

    return read
