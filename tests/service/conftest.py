"""The real application in process, on the fake engine and a bundle made for it."""

from __future__ import annotations

import asyncio
import io
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from PIL import Image

from probes.model.bundle import Bundle, CertificateAttempt, Golden
from probes.model.calibration import PlattMap
from probes.model.certificate import Certificate
from probes.model.folder import write_bundle
from probes.model.policy import Policy
from probes.model.probe import LinearProbe
from probes.model.risk import RiskModel
from probes.signals.domain import DomainModel
from probes.signals.image_features import image_features
from probes.types import CONSISTENCY_MODES, GenerationSettings, Query
from service.app import create_app
from service.engines.fake import FakeEngine
from service.gate.gate import Gate
from service.http.server import Server, bind
from service.settings import Settings

PLATE = np.full((48, 64, 3), 200, dtype=np.uint8)


def encode(array: np.ndarray, kind: str = "PNG") -> bytes:
    """An array as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def certificate(mode: str, threshold: float, expires: datetime) -> Certificate:
    """A certificate with the fields that a response shows."""
    return Certificate(
        id=f"c-{mode}",
        alpha=0.05,
        delta=0.05,
        n=812,
        k=20,
        threshold=threshold,
        self_consistency=mode,  # type: ignore[arg-type]
        samples=0 if mode == "never" else 10,
        bundle="b-test",
        model="fake",
        data="d",
        created="2026-01-01T00:00:00+00:00",
        expires=expires.isoformat(),
    )


def make_bundle(
    engine: FakeEngine,
    *,
    threshold: float = 0.5,
    limit: float = 1e9,
    days: int = 365,
    policy: Policy | None = None,
) -> Bundle:
    """A bundle for the fake engine whose every part is known.

    Args:
        threshold: accept_below of every certificate.
        limit: of the domain of validity.
        days: until the certificates expire.
    """
    identity = engine.identity
    wide = identity.hidden_size
    probe = LinearProbe(
        layer=2,
        position="answer_last",
        weights=np.ones(wide, dtype=np.float32),
        intercept=0.0,
        mean=np.zeros(wide, dtype=np.float32),
        scale=np.ones(wide, dtype=np.float32),
        components=np.eye(wide, dtype=np.float32)[:2],
    )
    features = 2 + image_features(PLATE).size
    expires = datetime.now(UTC) + timedelta(days=days)
    bundle = Bundle(
        id="b-test",
        model=identity,
        generation=GenerationSettings(),
        attention_layers=(1, 2),
        probe=probe,
        stage_one=RiskModel(("probe_logit",), np.array([0.5]), 0.0, PlattMap(1.0, 0.0)),
        stage_two=RiskModel(
            ("probe_logit", "agreement"), np.array([0.5, -4.0]), 2.0, PlattMap(1.0, 0.0)
        ),
        domain=DomainModel(np.zeros(features), np.eye(features), limit, 2),
        policy=policy or Policy(reject_above=0.95),
        alpha=0.05,
        attempts=tuple(
            CertificateAttempt(0.05, mode, certificate(mode, threshold, expires))
            for mode in CONSISTENCY_MODES
        ),
        golden=(),
        data="d",
        training={},
    )
    return replace(bundle, golden=tuple(_golden(engine, bundle, n) for n in range(2)))


def _golden(engine: FakeEngine, bundle: Bundle, number: int) -> Golden:
    query = Query(np.full((8, 8, 3), number, dtype=np.uint8), "Is it whole?")
    probe = bundle.probe
    place = (probe.layer, probe.position)
    read = engine.state(query, *place) @ probe.projection
    return Golden(query, "yes", {place: read})


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app inside its lifespan, once the self-test has ended."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gate") as client,
    ):
        await app.state.gate.tested.wait()
        yield client


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def png() -> bytes:
    """The plate as a file."""
    return encode(PLATE)


@pytest.fixture
def frame(png: bytes) -> Callable[[object], bytes]:
    """The plate in as many files as wanted: the same pixels, other bytes."""

    def make(name: object) -> bytes:
        content = b"tEXtframe\0" + str(name).encode()
        size, check = len(content) - 4, zlib.crc32(content)
        chunk = size.to_bytes(4, "big") + content + check.to_bytes(4, "big")
        return png[:-12] + chunk + png[-12:]

    return make


@pytest.fixture
def bundled(engine: FakeEngine) -> Callable[..., Bundle]:
    """:func:`make_bundle` for the engine under test."""
    return lambda **changes: make_bundle(engine, **changes)


@pytest.fixture
def saved() -> Callable[[Bundle, Path], Bundle]:
    """Write a bundle with its certificates, which name the id that it gets there."""

    def save(bundle: Bundle, folder: Path) -> Bundle:
        bare = replace(bundle, attempts=(), alpha=None)
        bare = write_bundle(bare, folder.with_name(folder.name + "-bare"))
        attempts = tuple(
            replace(one, outcome=Certificate.sealed(**one.outcome.to_dict() | {"bundle": bare.id}))
            for one in bundle.attempts
            if isinstance(one.outcome, Certificate)
        )
        return write_bundle(replace(bare, attempts=attempts, alpha=bundle.alpha), folder)

    return save


Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(answer_for=lambda query: "yes")


@pytest.fixture
def serve(engine: FakeEngine) -> Serve:
    """Serve the engine with a bundle; keyword arguments are settings."""

    def start(
        bundle: Bundle | None = None, /, **settings: object
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        made = Settings(  # decoders of its own would cost each test more than the test
            **{"engine": "fake", "records_url": "", "decode_processes": 0, **settings}  # type: ignore[arg-type]
        )
        return serving(create_app(made, engine, bundle or make_bundle(engine)))

    return start


@pytest.fixture(name="serving")
def _serving() -> Callable[[FastAPI], AbstractAsyncContextManager[httpx.AsyncClient]]:
    """:func:`serving`, for tests that make the app themselves."""
    return serving


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The records of a test lie in its folder."""
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Live:
    """A service on a real socket, in a thread of its own."""

    url: str
    gate: Gate
    loop: asyncio.AbstractEventLoop

    def soon(self, function: Callable[[], object]) -> None:
        """Call something on the service's event loop."""
        self.loop.call_soon_threadsafe(function)


@contextmanager
def listening(settings: Settings, engine: FakeEngine, bundle: Bundle) -> Iterator[Live]:
    """uvicorn on a free loopback port, ready, until the block ends."""
    app = create_app(settings, engine, bundle)
    socket = bind(settings)
    socket.listen()
    server, loop = Server(app, settings), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve([socket]),))
    thread.start()
    try:
        gate = app.state.gate
        asyncio.run_coroutine_threadsafe(gate.tested.wait(), loop).result(60)
        yield Live(f"http://127.0.0.1:{socket.getsockname()[1]}", gate, loop)
    finally:
        server.should_exit = True
        thread.join(60)
        loop.close()
        socket.close()


@pytest.fixture
def live(engine: FakeEngine) -> Callable[..., AbstractContextManager[Live]]:
    """Serve the engine over loopback; keyword arguments are settings."""

    def start(bundle: Bundle | None = None, /, **settings: object) -> AbstractContextManager[Live]:
        made = Settings(**{"engine": "fake", "port": 0, "decode_processes": 0, **settings})  # type: ignore[arg-type]
        return listening(made, engine, bundle or make_bundle(engine))

    return start


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


WITHOUT = "TESTS_WITHOUT_POSTGRESQL"


class PostgresServer:
    """A server in a folder of its own, reached by a socket there; never run by root."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._call("initdb", "--no-sync", "--auth=trust", "--username=gate", "--encoding=UTF8")

    def start(self) -> None:
        """Start and wait until it takes connections."""
        options = f"-c listen_addresses='' -k {self._folder} -c fsync=off"
        log = self._folder / "log"
        self._call("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop; ``immediate`` is a crash of the database."""
        self._call("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def empty_database(self) -> str:
        """URL of the database, emptied: a folder for each test would cost more than the tests."""
        server = {"host": str(self._folder), "user": "gate", "dbname": "postgres"}
        with psycopg.connect(**server, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return f"postgresql://gate@/postgres?host={self._folder}"

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, f"--pgdata={self._folder / 'data'}", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **self._user,
        )


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set")
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.fail(f"there is no PostgreSQL here: install its server, or set {WITHOUT}=1")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, for the socket's path
    try:
        server = PostgresServer(binaries, folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
