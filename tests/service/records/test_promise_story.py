"""The whole way, over HTTP and the command line: void, lifted, void for good, certified again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from probes.guarantee.betting import Ladder
from probes.guarantee.learn_then_test import certify
from probes.model.bundle import Bundle, CertificateAttempt
from probes.model.certificate import Certificate
from probes.model.folder import write_bundle
from service.access.key_file import SCOPES, new_key, save_keys, utc_now
from service.cli import app

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
        self.client._transport.app.state.gate.record_keeping.promise.read()  # type: ignore[attr-defined]
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
            self.client._transport.app.state.gate.record_keeping.promise.read()  # type: ignore[attr-defined]
        assert told["reason"] == "certificate_void"
        return wrong


def certified(bundle: Bundle, created: datetime) -> Bundle:
    """With the certificate that the run's judged answers give, whenever that is."""
    found = certify(
        np.full(200, 0.2), np.zeros(200, dtype=bool), np.arange(200),
        Ladder(np.array([0.9]), np.array([0.9]), 1),
        alpha=0.05, delta=0.05, self_consistency="never", samples=0, bundle=bundle.id,
        model="fake", data="the run", created=created, valid_days=30,
    )  # fmt: skip
    assert isinstance(found, Certificate)
    return replace(bundle, attempts=(CertificateAttempt(0.05, "never", found),))


async def test_from_a_mistaken_word_to_a_new_certificate(
    url, serve, bundled, saved, frame, tmp_path, monkeypatch
) -> None:
    now = datetime.now(UTC)
    first = saved(certified(bundled(), now), tmp_path / "first")
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
        same = write_bundle(certified(first, now + timedelta(days=1)), tmp_path / "same")
        assert same.certificates["never"].expires != first.certificates["never"].expires
        put("same")
        await reload()
        assert await line.reason() == "certificate_void"

        for _ in range(130):
            await line.tell("bob", await line.ask(), correct=True)
        for name in [name for name in os.environ if name.startswith("VLM_GATE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("VLM_GATE_RECORDS_URL", url)
        since = started.strftime("%Y-%m-%dT%H:%M:%S%z")
        command = ["recertify", str(current), "--since", since, "--alpha", "0.2", "--loosen"]
        ended = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "again")])
        assert ended.exit_code == 0, ended.output
        put("again")
        await reload()
        assert await line.reason() == "audit"  # accepted, and drawn at rate 1
        policy = (await client.get("/v1/policy", headers=line.people["ann"])).json()
        assert policy["loosened_from"] == 0.05


async def test_a_bundle_of_before_is_served_and_says_what_its_certificate_is(
    url, serve, bundled, saved, tmp_path
) -> None:
    old = saved(bundled(), tmp_path / "old")
    told = CliRunner().invoke(app, ["bundle", "inspect", str(tmp_path / "old")])
    assert "old kind" in told.stdout
    async with serve(old, records_url=url, audit_rate=1.0) as client:
        policy = (await client.get("/v1/policy")).json()
        evidence = (await client.get("/metrics")).text
    assert policy["certificates"]["never"]["test"] == "binomial"
    assert "vlm_gate_promise_evidence_ratio 0.05" in evidence
