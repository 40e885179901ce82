"""The whole way, over HTTP and the command line: void, lifted, void for good, certified again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from probes.bundle import Bundle, CertificateAttempt
from probes.guarantee import Certificate
from service.cli import app
from service.key_file import SCOPES, new_key, save_keys, utc_now

pytestmark = pytest.mark.anyio


class Line:
    """A service with keys of two reviewers, asked and told over HTTP."""

    def __init__(self, client: httpx.AsyncClient, frame: Callable[[object], bytes]) -> None:
        self.client, self._frame, self._asked = client, frame, 0
        made = {name: new_key(name, SCOPES, utc_now()) for name in ("ann", "bob")}
        save_keys(Path("keys.json"), [kept for _, kept in made.values()])
        self.people = {name: {"authorization": f"Bearer {key}"} for name, (key, _) in made.items()}

    async def ask(self) -> dict[str, Any]:
        self._asked += 1
        sent = {"data": {"question": "q", "self_consistency": "never"},
                "files": {"image": self._frame(self._asked)}}  # fmt: skip
        reply = await self.client.post("/v1/answer", headers=self.people["ann"], **sent)
        body: dict[str, Any] = reply.json()
        return body

    async def tell(self, who: str, answer: dict[str, Any], correct: bool) -> None:
        said = {"id": answer["id"], "correct": correct}
        reply = await self.client.post("/v1/outcomes", json=said, headers=self.people[who])
        assert reply.status_code == 200, reply.text

    async def reason(self) -> str:
        """Why the next answer is decided as it is, after the audits were read."""
        self.client._transport.app.state.gate.keeper.promise.read()  # type: ignore[attr-defined]
        return str((await self.ask())["reason"])

    async def evidence(self) -> float:
        text = (await self.client.get("/metrics")).text
        rows = [row for row in text.splitlines() if row.startswith("vlm_gate_promise_evidence")]
        return float(rows[0].split()[1])

    async def void(self) -> list[dict[str, Any]]:
        """Wrong answers until the certificate is void."""
        wrong = []
        while (told := await self.ask())["reason"] == "audit":
            await self.tell("ann", told, correct=False)
            wrong.append(told)
            self.client._transport.app.state.gate.keeper.promise.read()  # type: ignore[attr-defined]
        assert told["reason"] == "certificate_void"
        return wrong


def again_the_same(bundle: Bundle, folder: Path) -> None:
    """Certified another time on the same data: another moment, and nothing else."""

    def later(attempt: CertificateAttempt) -> CertificateAttempt:
        assert isinstance(attempt.outcome, Certificate)
        fields = attempt.outcome.to_dict()
        now = datetime.now(UTC)
        fields |= {"created": now.isoformat(), "expires": (now + timedelta(days=9)).isoformat()}
        del fields["id"]
        return replace(attempt, outcome=Certificate.sealed(**fields))

    replace(bundle, attempts=tuple(later(one) for one in bundle.attempts)).save(folder)


async def test_from_a_mistaken_word_to_a_new_certificate(
    url, serve, bundled, saved, frame, tmp_path, monkeypatch
) -> None:
    first = saved(bundled(threshold=0.9), tmp_path / "first")
    current = tmp_path / "current"
    current.symlink_to(tmp_path / "first")
    started = datetime.now(UTC) - timedelta(seconds=1)
    settings = {
        "records_url": url, "audit_rate": 1.0, "bundle": current,
        "api_keys_file": tmp_path / "keys.json", "audit_deadline_days": 30,
    }  # fmt: skip

    def put(folder: str) -> None:
        current.unlink()
        current.symlink_to(tmp_path / folder)

    save_keys(tmp_path / "keys.json", [new_key("setup", SCOPES, utc_now())[1]])
    async with serve(first, **settings) as client:
        line = Line(client, frame)

        async def reload() -> dict[str, Any]:
            reply = await client.post("/v1/bundle:reload", headers=line.people["ann"])
            assert reply.status_code == 200, reply.text
            body: dict[str, Any] = reply.json()
            return body

        mistaken = (await line.void())[0]
        assert await line.evidence() >= 1
        await line.tell("ann", mistaken, correct=True)  # not by hand alone
        assert await line.reason() == "certificate_void"
        await line.tell("bob", mistaken, correct=True)
        assert await line.reason() == "audit"  # the evidence lifted it
        assert await line.evidence() < 1

        await line.void()  # errors that nobody can correct
        again_the_same(first, tmp_path / "same")
        put("same")
        await reload()
        stays = await line.reason()

        for _ in range(130):
            await line.tell("bob", await line.ask(), correct=True)
        for name in [name for name in os.environ if name.startswith("VLM_GATE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("VLM_GATE_RECORDS_URL", url)
        since = started.strftime("%Y-%m-%dT%H:%M:%S%z")
        command = ["certify", str(current), "--from-records", "--since", since, "--alpha", "0.2"]
        ended = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "again")])
        assert ended.exit_code == 0, ended.output
        put("again")
        await reload()
        assert await line.reason() == "audit"  # accepted, and drawn at rate 1
    assert stays == "certificate_void"
