"""How many of our modules one question passes on its way from its route to its record."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import probes
import service
from service.app import create_app
from service.settings import Settings

pytestmark = pytest.mark.anyio
MOST = 30
"""An engine is a world of its own, and is not counted."""
ROOTS = {Path(package.__path__[0]): package.__name__ for package in (probes, service)}


class Calls:
    """The modules of ours in which a function was called while it is ``on``, in any thread."""

    def __init__(self) -> None:
        self.on = False
        self._files: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call":
            self._files.setdefault(frame.f_code.co_filename)

    @property
    def modules(self) -> list[str]:
        """Their names, in the order of their first calls."""
        found = []
        for file in map(Path, self._files):
            for root, name in ROOTS.items():
                if file.is_relative_to(root):
                    found.append(".".join((name, *file.relative_to(root).with_suffix("").parts)))
        return [name for name in found if not name.startswith("service.engines")]


@pytest.fixture
def calls():
    """Watches this thread and every one that is started from now on."""
    calls, before = Calls(), sys.getprofile()
    threading.setprofile(calls)
    sys.setprofile(calls)
    yield calls
    sys.setprofile(before)
    threading.setprofile(None)


async def test_a_question_passes_few_modules_from_its_route_to_its_record(
    calls: Calls, engine, bundled, serving, png: bytes, tmp_path: Path
) -> None:
    settings = Settings(
        engine="fake",
        records_url=f"sqlite:///{tmp_path / 'records.db'}",
        records_strict=True,  # the answer comes after its record
        audit_rate=1.0,
    )
    async with serving(create_app(settings, engine, bundled())) as client:
        calls.on = True
        reply = await client.post(
            "/v1/answer", data={"question": "Is it whole?"}, files={"image": png}
        )
        calls.on = False
        kept = await client.get(f"/v1/answers/{reply.json()['id']}")
    assert kept.status_code == httpx.codes.OK
    way = calls.modules
    assert {"service.gate.pipeline", "service.records.store"} <= set(way)
    assert len(way) <= MOST, "\n".join(way)
