"""From a collected run to a void and out of it, by the command line and over HTTP."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from typer.testing import CliRunner

from probes.guarantee.ledger import LEDGER
from probes.model.folder import read_bundle
from probes.types import Generation, Query, Readout
from service.access.key_file import SCOPES, new_key, save_keys, utc_now
from service.app import create_app
from service.cli import app
from service.engines.fake import FakeEngine
from service.settings import Settings

pytestmark = pytest.mark.anyio
QUESTION = "Is number 0 there?"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Served(FakeEngine):
    """Answers as the engine of the collected run."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self._source = source
        self.identity = source.identity

    async def generate(self, query: Query, readout: Readout) -> Generation:
        found: Generation = await self._source.generate(query, readout)
        return found


ENOUGH = 24
"""Wrong answers that void an alpha of 10 % beside some hundred images with an answer unjudged."""


class Line:
    """Asks about the run's images over HTTP, and tells what two reviewers say."""

    def __init__(self, client: httpx.AsyncClient, gate: Any, images: list[Path]) -> None:
        self._client, self._gate, self._images = client, gate, images
        made = {name: new_key(name, SCOPES, utc_now()) for name in ("ann", "bob")}
        save_keys(Path("keys.json"), [kept for _, kept in made.values()])
        self._people = {name: {"authorization": f"Bearer {key}"} for name, (key, _) in made.items()}
        self.accepted: list[Path] = []

    async def ask(self, image: Path) -> dict[str, Any]:
        sent = {"data": {"question": QUESTION, "self_consistency": "never", "group": image.stem},
                "files": {"image": await asyncio.to_thread(image.read_bytes)}}  # fmt: skip
        return await self._call("POST", "/v1/answer", "ann", **sent)

    async def tell(self, who: str, answer: dict[str, Any], correct: bool) -> None:
        said = {"id": answer["id"], "correct": correct, "reviewer": "the manager"}
        await self._call("POST", "/v1/outcomes", who, json=said)

    async def _call(self, method: str, path: str, who: str, **sent: Any) -> dict[str, Any]:
        reply = await self._client.request(method, path, headers=self._people[who], **sent)
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body

    async def find_accepted(self) -> None:
        """The images whose answers the first certificate accepts: all are drawn for audits."""
        for image in self._images:
            if (await self.ask(image))["reason"] == "audit":
                self.accepted.append(image)

    async def reason(self) -> str:
        """Why the next answer is decided as it is, after the audits were read."""
        self._gate.record_keeping.settle()
        self._gate.rules.promise.read()
        return str((await self.ask(self.accepted[-1]))["reason"])

    async def policy(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/policy", "bob")

    async def reload(self) -> dict[str, Any]:
        return await self._call("POST", "/v1/bundle:reload", "ann")


@asynccontextmanager
async def serving(
    engine: FakeEngine, current: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    settings = Settings(
        engine="fake", bundle=current, records_url="sqlite:///records.db", audit_rate=1.0,
        api_keys_file=Path("keys.json"), decode_processes=0,
    )  # fmt: skip
    save_keys(Path("keys.json"), [new_key("setup", SCOPES, utc_now())[1]])
    made = create_app(settings, engine, read_bundle(current))
    transport = httpx.ASGITransport(made, raise_app_exceptions=False)
    async with (
        made.router.lifespan_context(made),
        httpx.AsyncClient(transport=transport, base_url="http://gate") as client,
    ):
        await made.state.gate.tested.wait()
        yield client, made.state.gate


@pytest.fixture
def command(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command whose tries nobody counts, on a copy of the collected run."""
    for name in [name for name in os.environ if name.startswith("VLM_GATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VLM_GATE_RECORDS_URL", "sqlite:///records.db")
    monkeypatch.chdir(tmp_path)
    # Without the tries of other tests on the shared run.
    shutil.copytree(run.root / "store", tmp_path / "store", ignore=shutil.ignore_patterns(LEDGER))

    def call(*words: object) -> str:
        for ledger in tmp_path.rglob(LEDGER):
            ledger.unlink()
        monkeypatch.setenv("VLM_GATE_TRIES_FOLDER", str(tmp_path / "tries"))
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    return call


async def test_nothing_on_the_same_data_lifts_a_void_but_corrected_words(
    run: Any, seed_1: Path, synthetic: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    trained, current = run.root / "trained", tmp_path / "current"
    command("certify", "store", trained, "--out", "first", "--alpha", 0.1)
    current.symlink_to(tmp_path / "first")
    started = datetime.now(UTC) - timedelta(seconds=1)
    images = sorted((run.root / "data").glob("*.png"))[:120]

    def put(folder: str) -> None:
        current.unlink()
        current.symlink_to(tmp_path / folder)

    with structlog.testing.capture_logs():
        async with serving(Served(synthetic()), current) as (client, gate):
            line = Line(client, gate, images)
            await line.find_accepted()
            certificate = (await line.policy())["certificates"]["never"]
            assert (certificate["old_kind"], certificate["unit"]) == (False, "group")

            told = [await line.ask(image) for image in line.accepted[:ENOUGH]]
            for answer in told:
                await line.tell("ann", answer, correct=False)
            assert await line.reason() == "certificate_void"
            for answer in told:
                await line.tell("ann", answer, correct=True)  # second thoughts
            assert await line.reason() == "certificate_void"
            for answer in told:
                await line.tell("bob", answer, correct=True)
            assert await line.reason() == "audit"

            for image in line.accepted[:ENOUGH]:
                await line.tell("ann", await line.ask(image), correct=False)
            assert await line.reason() == "certificate_void"
            for name, bundle, options in (
                ("again", trained, ["--alpha", 0.1]),
                ("looser", trained, ["--alpha", 0.2]),
                ("more", trained, ["--alpha", 0.1, "--most-per-group", 2]),
                ("seed", seed_1, ["--alpha", 0.2]),
                ("asked", trained, ["--alpha", 0.2, "--questions", "any"]),
            ):
                command("certify", "store", bundle, "--out", name, *options)
                put(name)
                assert (await line.reload())["certificates"]["never"] == {
                    "missing": "certificate_void"
                }, name
                assert await line.reason() == "certificate_void", name

            put("first")
            await line.reload()
            for image in line.accepted:
                await line.tell("bob", await line.ask(image), correct=True)
            since = started.strftime("%Y-%m-%dT%H:%M:%S%z")
            said = command(
                "recertify", current, "--since", since, "--alpha", 0.3, "--loosen", "--out", "since"
            )
            assert "the window begins at" in said
            assert "unit: image" not in said  # every answer named its group
            put("since")
            policy = await line.reload()
            assert policy["certificates"]["never"]["unit"] == "group"
            assert await line.reason() == "audit"
