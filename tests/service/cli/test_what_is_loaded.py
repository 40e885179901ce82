"""What a process has imported once it did its work, each looked at in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from probes.model.bundle import Bundle

ROOT = Path(__file__).parents[3]
MOST_OF_THE_CLIENT = 10
TELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"
SERVE = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path

import httpx

from probes.model.folder import read_bundle
from service.app import create_app
from service.engines.fake import FakeEngine
from service.settings import Settings


async def serve(bundle, image):
    settings = Settings(engine="fake", decode_processes=1, audit_rate=1.0)
    app = create_app(settings, FakeEngine(answer_for=lambda query: "yes"), read_bundle(bundle))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as client,
    ):
        await app.state.gate.tested.wait()
        asked = {"question": "Is it whole?", "self_consistency": "always"}
        with image.open("rb") as file:
            answered = await client.post("/v1/answer", data=asked, files={"image": file})
        answered.raise_for_status()
        outcome = {"id": answered.json()["id"], "reference": "y.s", "rule": "regex"}
        (await client.post("/v1/outcomes", json=outcome)).raise_for_status()


asyncio.run(serve(*map(Path, sys.argv[1:])))
"""


def loaded(code: str, *arguments: Path) -> set[str]:
    """The modules in memory after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{TELL}", *arguments],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_client_brings_little_of_ours_and_nothing_of_the_science() -> None:
    modules = loaded("from service.client import Client")
    ours = {name for name in modules if name.partition(".")[0] in {"service", "probes"}}
    assert len(ours) <= MOST_OF_THE_CLIENT, sorted(ours)
    assert "httpx" in modules
    assert not modules & {"sqlalchemy", "sklearn", "pyarrow", "numpy", "scipy", "PIL"}


def test_help_brings_no_more_than_the_commands_words() -> None:
    """Its time is that of its imports: half of what it took would be much."""
    modules = loaded(
        "from service.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert "service.cli.train" in modules
    heavy = {"numpy", "scipy", "sklearn", "pyarrow", "PIL", "pydantic", "sqlalchemy", "fastapi"}
    assert not modules & {*heavy, "httpx", "cryptography", "torch", "service.settings"}


def test_a_service_that_answered_has_nothing_of_training(
    bundled: Callable[..., Bundle],
    saved: Callable[[Bundle, Path], Bundle],
    png: bytes,
    tmp_path: Path,
) -> None:
    saved(bundled(), tmp_path / "bundle")
    (tmp_path / "plate.png").write_bytes(png)
    modules = loaded(SERVE, tmp_path / "bundle", tmp_path / "plate.png")
    assert {"service.gate.pipeline", "service.records.store", "re2"} <= modules
    assert not modules & {"sklearn", "pyarrow", "matplotlib", "joblib", "threadpoolctl"}
    parts = ("data", "fit", "guarantee", "judge", "report", "reproduce")
    assert not {f"probes.{part}" for part in parts} & modules
