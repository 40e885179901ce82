"""Outcomes told and answers read over HTTP, on either database."""

from __future__ import annotations

import httpx
import pytest

from service.access.key_file import SCOPES, new_key, save_keys, utc_now

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(serve, url):
    async with serve(records_url=url) as one:
        yield one


async def answered(client: httpx.AsyncClient, png: bytes, **data: str) -> str:
    fields = {"question": "Is it whole?", **data}
    reply = await client.post("/v1/answer", data=fields, files={"image": png})
    return str(reply.json()["id"])


async def test_an_outcome_is_kept_once_and_can_be_corrected(client, png) -> None:
    one = await answered(client, png)
    for body, status in (
        ({"correct": False, "reviewer": "ann"}, "added"),
        ({"correct": False, "reviewer": "ann"}, "unchanged"),
        ({"correct": True, "reviewer": "ann"}, "added"),
        ({"reference": "no", "reviewer": "bob"}, "added"),
        ({"reference": "no"}, "added"),
    ):
        told = await client.post("/v1/outcomes", json={"id": one, **body})
        # the latest word counts on an answer that was not drawn for an audit
        assert told.json() == {"id": one, "status": status, "counts": True}
    outcomes = (await client.get(f"/v1/answers/{one}")).json()["outcomes"]
    said = [(o["reviewer"], o["version"], o["correct"], o["reference"]) for o in outcomes]
    assert said == [
        ("ann", 1, False, None),
        ("ann", 2, True, None),
        ("bob", 1, None, "no"),
        ("", 1, None, "no"),
    ]


async def test_an_answer_nobody_gave_is_a_404(client) -> None:
    told = await client.post("/v1/outcomes", json={"id": "01NOBODY", "correct": True})
    for reply in (told, await client.get("/v1/answers/01NOBODY")):
        assert (reply.status_code, reply.json()["field"]) == (404, "id")
        assert reply.json()["type"] == "urn:vlm-gate:problem:unknown_answer"
    for odd in ("%00", "a%20b", "x" * 300, "é"):
        assert (await client.get(f"/v1/answers/{odd}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "01A"}, "body"),
        ({"id": "01A", "correct": True, "reference": "yes"}, "body"),
        ({"id": "01A", "correct": "yes"}, "correct"),
        ({"id": "01A", "reference": ""}, "reference"),
        ({"id": "", "correct": True}, "id"),
        ({"id": "../x", "correct": True}, "id"),
        ({"correct": True}, "id"),
        ({"id": "01A", "correct": True, "cannot_tell": True}, "body"),
        ({"id": "01A", "cannot_tell": False}, "body"),
        ({"id": "01A", "cannot_tell": True, "rule": "match"}, "rule"),
        ({"id": "01A", "correct": True, "note": "x" * 501}, "note"),
        ({"id": "01A", "correct": True, "reviewr": "ann"}, "reviewr"),
        ({"id": "01A", "correct": True, "reviewer": "x" * 129}, "reviewer"),
        ([], "body"),
    ],
)
async def test_a_bad_outcome_is_a_422(client, body, field) -> None:
    reply = await client.post("/v1/outcomes", json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, field)


async def test_a_body_that_is_no_json_is_a_400(client) -> None:
    reply = await client.post("/v1/outcomes", content=b"{")
    assert (reply.status_code, reply.json()["field"]) == (400, "body")
    reply = await client.post("/v1/outcomes", content=b"x" * 20_000)
    assert reply.status_code == 413


async def test_pages_and_filters(client, png) -> None:
    odd = [await answered(client, png, metadata='{"camera": "A"}') for _ in range(2)]
    even = [await answered(client, png, metadata='{"camera": "B"}') for _ in range(3)]
    await client.get("/v1/answers/01WAIT")  # waits for what is queued

    seen, after = [], ""
    while after is not None:
        page = (await client.get("/v1/answers", params={"limit": 2, "after": after})).json()
        assert len(page["answers"]) <= 2
        seen += [one["id"] for one in page["answers"]]
        after = page["next"]
    assert seen == [*reversed(even), *reversed(odd)]

    async def ids(**params: str) -> list[str]:
        reply = await client.get("/v1/answers", params=params)
        assert reply.status_code == 200, reply.text
        return [one["id"] for one in reply.json()["answers"]]

    assert await ids(slice="camera:A") == [*reversed(odd)]
    assert await ids(slice="camera:C") == []
    assert await ids(decision="reject") == []
    told = (await client.get(f"/v1/answers/{odd[0]}")).json()
    assert len(await ids(reason=told["reason"], decision=told["decision"])) == 5
    assert await ids(reason="audit") == []
    assert await ids(audit="true") == []
    assert len(await ids(since="2020-01-01T00:00:00Z")) == 5
    assert await ids(until="2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after": "here"}, None),
        ({"decision": "perhaps"}, "decision"),
        ({"slice": "camera"}, "slice"),
        ({"since": "2020-01-01T00:00:00"}, "since"),
        ({"untill": "2020-01-01T00:00:00Z"}, "untill"),
    ],
)
async def test_a_bad_filter_is_a_422(client, params, field) -> None:
    reply = await client.get("/v1/answers", params=params)
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    assert reply.json().get("field") == field


async def test_without_records_there_is_nothing_to_read(serve) -> None:
    async with serve() as client:
        replies = [
            await client.get("/v1/answers"),
            await client.get("/v1/answers/01A"),
            await client.post("/v1/outcomes", json={"id": "01A", "correct": True}),
        ]
        ready = await client.get("/readyz")
    assert [reply.status_code for reply in replies] == [404] * 3
    assert {reply.json()["type"] for reply in replies} == {"urn:vlm-gate:problem:records_off"}
    assert ready.json() == {"ready": True, "state": "ready"}


async def test_what_nobody_can_tell_is_told_and_a_rule_goes_with_its_reference(client, png) -> None:
    one = await answered(client, png)
    for body in (
        {"cannot_tell": True, "note": "too dark"},
        {"reference": "yes", "rule": "match"},
    ):
        assert (await client.post("/v1/outcomes", json={"id": one, **body})).status_code == 200
    first, second = (await client.get(f"/v1/answers/{one}")).json()["outcomes"]
    assert (first["cannot_tell"], first["note"], first["counts"]) == (True, "too dark", False)
    assert (second["reference"], second["rule"], second["counts"]) == ("yes", "match", True)


@pytest.fixture
def people(tmp_path) -> dict[str, dict[str, str]]:
    """Headers of two reviewers, one with a second key; the file ``keys.json`` knows them."""
    names = ("ann", "bob", " Ann ")
    made = {name: new_key(name, SCOPES, utc_now()) for name in names}
    save_keys(tmp_path / "keys.json", [kept for _, kept in made.values()])
    return {name: {"authorization": f"Bearer {whole}"} for name, (whole, _) in made.items()}


async def test_the_reviewer_is_who_holds_the_key(
    serve, bundled, url, people, png, tmp_path
) -> None:
    """Whatever they call themselves; and their second thoughts on an audit do not count."""
    settings = {"records_url": url, "audit_rate": 1.0, "api_keys_file": tmp_path / "keys.json"}
    async with serve(bundled(threshold=0.99), **settings) as client:
        sent = {"data": {"question": "q"}, "files": {"image": png}, "headers": people["ann"]}
        asked = (await client.post("/v1/answer", **sent)).json()
        assert asked["reason"] == "audit"

        async def tell(who: str, **body: object) -> bool:
            said = {"id": asked["id"], **body}
            reply = await client.post("/v1/outcomes", json=said, headers=people[who])
            return bool(reply.json()["counts"])

        async def due(who: str) -> list[dict[str, object]]:
            query = {"second_word": "true"}
            reply = await client.get("/v1/answers", params=query, headers=people[who])
            return list(reply.json()["answers"])

        assert await due("bob") == []  # nobody has said anything yet
        assert await tell("ann", correct=False, reviewer="bob", note="a scratch")
        assert not await tell("ann", correct=True, reviewer="carol")
        assert not await tell(" Ann ", correct=True, reviewer="carol")
        assert await due("ann") == await due(" Ann ") == []
        assert [(one["id"], one["outcomes"]) for one in await due("bob")] == [(asked["id"], [])]
        assert await tell("bob", correct=True)
        assert await due("bob") == []
        where = f"/v1/answers/{asked['id']}"
        told = (await client.get(where, headers=people["ann"])).json()["outcomes"]
    ann, bob = told[0]["reviewer"], told[2]["reviewer"]
    assert [one["reviewer"] for one in told] == [ann, ann, bob]
    assert ann != bob
    assert [one["note"] for one in told] == ["bob: a scratch", "carol", None]
    assert [one["counts"] for one in told] == [False, False, True]
