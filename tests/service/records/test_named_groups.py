"""The group that a caller names: from the request into the records, the test and a certificate."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from probes.guarantee.recertify import certify_judged
from probes.model.certificate import NoCertificate
from service.gate.audit_replay import grouped, groups_of
from service.offline.export import export_parquet
from service.offline.recertify import gather
from service.records.answer import answer_row
from service.records.audits import Sample
from service.records.outcome import Outcome

pytestmark = pytest.mark.anyio
GROUP = "part 17 / ü"


def fields(png: bytes, **more: Any) -> dict[str, Any]:
    return {"question": "q", "image": base64.b64encode(png).decode(), **more}


async def by_json(client: httpx.AsyncClient, png: bytes, group: Any) -> httpx.Response:
    return await client.post("/v1/answer", json=fields(png, group=group))


async def by_form(client: httpx.AsyncClient, png: bytes, group: Any) -> httpx.Response:
    data = {"question": "q", "group": group}
    return await client.post("/v1/answer", data=data, files={"image": png})


async def by_chat(client: httpx.AsyncClient, png: bytes, group: Any) -> httpx.Response:
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    parts = [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": url}}]
    said = {"model": "fake", "messages": [{"role": "user", "content": parts}], "group": group}
    return await client.post("/v1/chat/completions", json=said)


async def by_batch(client: httpx.AsyncClient, png: bytes, group: Any) -> httpx.Response:
    line = json.dumps(fields(png, group=group)) + "\n"
    kind = {"content-type": "application/jsonl"}
    return await client.post("/v1/answers:batch", content=line, headers=kind)


Ask = Callable[..., Any]
WAYS = [by_json, by_form, by_chat, by_batch]


@pytest.mark.parametrize("ask", WAYS)
async def test_it_is_recorded_whichever_way_it_comes(serve, png, tmp_path: Path, ask: Ask) -> None:
    async with serve(records_url=f"sqlite:///{tmp_path / 'records.db'}") as client:
        assert (await ask(client, png, GROUP)).status_code == 200
        client._transport.app.state.gate.record_keeping.settle()
        (told,) = (await client.get("/v1/answers")).json()["answers"]
        store = client._transport.app.state.gate.record_keeping.store
        export_parquet(store, tmp_path / "out.parquet")
    assert told["group"] == GROUP
    assert pq.read_table(tmp_path / "out.parquet").to_pylist()[0]["group"] == GROUP


@pytest.mark.parametrize("ask", WAYS)
async def test_what_names_nothing_is_refused(serve, png, ask: Ask) -> None:
    async with serve() as client:
        for group in ("x" * 257, " \t", "a\0b", ""):
            reply = await ask(client, png, group)
            if ask is by_batch:  # each line has a status of its own
                (told,) = [json.loads(line) for line in reply.text.splitlines()]
                assert told["field"] == "group", told
            else:
                assert reply.status_code in {400, 422}, reply.text
                body = reply.json()
                assert "group" in (body.get("field"), body.get("error", {}).get("param"))


def test_a_record_without_one_is_hashed_as_before(record) -> None:
    assert answer_row(record())["group"] is None  # null columns are no part of the hash
    assert answer_row(record(group="a"))["group"] == "a"


@pytest.mark.parametrize(
    ("named", "groups", "unit"),
    [("all", 12, "group"), ("some", 36, "image"), ("none", 60, "image")],
)
def test_frames_of_a_scene_are_what_the_caller_says(
    open_store, record, bundled, tmp_path: Path, named: str, groups: int, unit: str
) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'records.db'}")
    start = datetime.now(UTC) - timedelta(days=1)
    bundle = bundled()
    records = [
        record(
            created=start + timedelta(minutes=n), bundle="b-test", certificate="c-never",
            reason="audit", audit=True, audit_probability=1.0, self_consistency="never", risk=0.1,
            accept_below=0.5, stage=1, image_sha256=f"{n:064x}",
            group=f"scene {n // 5}" if named == "all" or (named == "some" and n < 30) else None,
        )
        for n in range(60)
    ]  # fmt: skip
    store.append_answers(records)
    for one in records:
        store.add_outcome(Outcome(one.id, one.created, correct=True))
    found = gather(store, bundle, start, datetime.now(UTC))
    assert (len(set(found.groups)), found.unit) == (groups, unit)
    made = certify_judged(
        bundle, found.risk, found.wrong, found.groups, limit=found.limit, data=found.fingerprint,
        alpha=0.5, delta=0.05, created=start, valid_days=9, unit=found.unit,
    )  # fmt: skip
    assert getattr(made, "unit", None) == unit


def test_one_group_as_wide_as_the_line_proves_nothing(bundled) -> None:
    made = certify_judged(
        bundled(), np.full(3000, 0.1), np.zeros(3000, dtype=bool), np.full(3000, "line 3"),
        limit=0.5, data="records-1", alpha=0.2, delta=0.05, created=datetime.now(UTC),
        valid_days=9, most=10,
    )  # fmt: skip
    assert isinstance(made, NoCertificate)


NAMES = {  # image and name of each audit -> the number of its group
    "images": ([("a", None), ("b", None), ("a", None)], [0, 1, 0]),
    "scenes": ([("a", "x"), ("b", "x"), ("c", "y")], [0, 0, 1]),
    "a request's id": ([("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")], [0, 0, 1, 0]),
    "named later": ([("a", None), ("a", "x"), ("b", "x")], [0, 0, 0]),
    "no name later": ([("a", "x"), ("b", "x"), ("b", None)], [0, 0, 0]),
    "a reference image": (
        [("r", "1"), ("a", "1"), ("r", "2"), ("b", "2"), ("r", "3"), ("c", "3"), ("b", "3")],
        [0, 0, 0, 1, 0, 2, 1],
    ),
    "two names": ([("a", "x"), ("b", "y"), ("b", "x"), ("c", "y"), ("d", "x")], [0, 1, 1, 1, 0]),
}  # fmt: skip


def sample(image: str, name: str | None) -> Sample:
    return Sample(
        id="id", arrived=datetime.now(UTC), number=None, image=image, named_group=name,
        probability=1.0, reference=1.0, wrong=None, confirmed=False, corrected=False, chain=None,
        sequence=None, claim=("b-test", "c-never"),
    )  # fmt: skip


@pytest.mark.parametrize(("seen", "groups"), NAMES.values(), ids=NAMES)
def test_an_image_belongs_to_one_group_of_the_test(
    seen: list[tuple[str, str | None]], groups: list[int]
) -> None:
    numbers: dict[str, int] = {}
    found = groups_of(sample(*one) for one in seen)
    assert [numbers.setdefault(one, len(numbers)) for one in found] == groups
    assert groups_of(sample(*one) for one in seen[:2]) == found[:2]  # no audit is placed anew


def test_a_name_as_wide_as_the_line_joins_no_more_images_after_a_hundred_audits() -> None:
    seen = [sample(f"{n % 150}", "line 3") for n in range(300)]
    assert len(set(groups_of(seen))) == 1 + 149
    assert len(set(groups_of(sample("a", f"request {n}") for n in range(300)))) == 1


JOINED = {
    "a request's id": (["a", "a", "b"], ["1", "2", "3"], ["a", "a", "b"]),
    "one name": (["a", "b"], ["x", "x"], ["a", "a"]),
    "a chain": (["a", "b", "b", "c"], ["x", "x", "y", "y"], ["a", "a", "a", "c"]),
    "a reference image": (["r", "a", "r", "b", "c"], [*"xxyyy"], ["r", "r", "r", "b", "b"]),
    "some named": (["a", "a", "b"], [None, "x", None], ["a", "a", "b"]),
    "none": (["a", "b", "a"], [None] * 3, ["a", "b", "a"]),
}


@pytest.mark.parametrize(("images", "names", "groups"), JOINED.values(), ids=JOINED)
def test_an_image_belongs_to_one_group_of_the_evidence(
    images: list[str], names: list[str | None], groups: list[str]
) -> None:
    assert grouped(zip(images, names, strict=True)) == groups
