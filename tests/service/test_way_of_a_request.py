"""How many of our modules one question passes on its way from its route to its record."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import Any

import httpx
import pytest

import probes
import service
from service.app import create_app
from service.gate.record_keeping import RecordKeeping
from service.http.routes import answer
from service.settings import Settings

pytestmark = pytest.mark.anyio
MOST_OF_SERVICE = 30
MOST_OF_PROBES = 20
"""Among them one for each signal."""
ROOTS = {Path(package.__path__[0]): package.__name__ for package in (probes, service)}
ENGINES = "service.engines."
"""A world of their own: not counted."""


class Calls:
    """The modules of ours in which a function was called while it is ``on``, in any thread."""

    def __init__(self) -> None:
        self.on = False
        self._files: dict[str, None] = {}
        self._before: set[FrameType] = set()  # middleware: it goes on after its calls

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.on and event == "call" and frame not in self._before:
            self._files.setdefault(frame.f_code.co_filename)

    def during(self, work: Callable[..., Awaitable[Any]], *, end: bool) -> Callable[..., Any]:
        """A step of the way that begins it, or ends it."""

        async def step(*arguments: Any) -> Any:
            if not end:
                self._before = {frame for frame, _ in walk_stack(sys._getframe())}
                sys.setprofile(self)
                self.on = True
            try:
                return await work(*arguments)
            finally:
                if end:
                    self.on = False
                    sys.setprofile(None)

        return step

    def modules(self, package: str) -> list[str]:
        """Their names, in the order of their first calls."""
        found = []
        for file in map(Path, self._files):
            for root, name in ROOTS.items():
                if name == package and file.is_relative_to(root):
                    found.append(".".join((name, *file.relative_to(root).with_suffix("").parts)))
        return [name for name in found if not name.startswith(ENGINES)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Follows a question from its route until its record is kept; every thread begun from now."""
    calls = Calls()
    monkeypatch.setattr(answer, "post_answer", calls.during(answer.post_answer, end=False))
    monkeypatch.setattr(RecordKeeping, "keep", calls.during(RecordKeeping.keep, end=True))
    threading.setprofile(calls)
    yield calls
    threading.setprofile(None)
    sys.setprofile(None)


async def test_a_question_passes_few_modules_from_its_route_to_its_record(
    calls: Calls, engine, bundled, serving, png: bytes, tmp_path: Path
) -> None:
    settings = Settings(
        engine="fake",
        decode_processes=1,
        records_url=f"sqlite:///{tmp_path / 'records.db'}",
        records_strict=True,  # the answer comes after its record
        audit_rate=1.0,
    )
    async with serving(create_app(settings, engine, bundled())) as client:
        reply = await client.post(
            "/v1/answer", data={"question": "Is it whole?"}, files={"image": png}
        )
        assert reply.status_code == httpx.codes.OK
        assert not calls.on
    gate, science = calls.modules("service"), calls.modules("probes")
    assert gate[0] == "service.http.routes.answer"
    assert {"service.gate.pipeline", "service.records.chain"} <= set(gate)
    assert "probes.model.policy" in science
    assert len(gate) <= MOST_OF_SERVICE, "\n".join(gate)
    assert len(science) <= MOST_OF_PROBES, "\n".join(science)
