"""The examples in docs/api.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def test_every_python_example_runs(live, png, tmp_path, monkeypatch, capsys):
    (tmp_path / "plate.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    examples = blocks("python")
    assert len(examples) == 4
    printed = []
    with live() as service:
        for example in examples:
            assert ADDRESS in example
            exec(compile(example.replace(ADDRESS, service.url), "docs/api.md", "exec"), {})
            printed.append(capsys.readouterr().out.splitlines())
    word = r"(accept|escalate|reject)"
    for lines in (printed[0], printed[1], printed[3]):
        assert len(lines) == 1
        assert re.fullmatch(rf"yes {word} 0\.\d+", lines[0])
    assert len(printed[2]) == 3
    assert re.fullmatch(rf"1 {word}", printed[2][0])
    assert printed[2][2].startswith("3 'question'")


def test_the_problem_shown_is_the_one_that_comes(live):
    (shown,) = [block for block in blocks("json") if "problem" in block]
    with live() as service:
        came = httpx.post(
            f"{service.url}/v1/answer",
            data={"question": "q"},
            files={"image": b"no image"},
            timeout=60,
        ).json()
    expected = httpx.Response(200, content=shown).json()
    assert {**came, "instance": ""} == {**expected, "instance": ""}
    assert len(came["instance"]) == len(expected["instance"])


def test_the_evidence_shown_has_the_fields_that_come(live, png):
    (shown,) = [block for block in blocks("json") if "logprob_drop" in block]
    with live() as service:
        came = httpx.post(
            f"{service.url}/v1/answer",
            data={"question": "q", "evidence": "true"},
            files={"image": png},
            timeout=60,
        ).json()
    assert list(came["signals"]["evidence"]) == list(httpx.Response(200, content=shown).json())


def test_every_route_shown_is_there(live):
    with live() as service:
        routes = httpx.get(f"{service.url}/openapi.json", timeout=60).json()["paths"]
    named = set(re.findall(r"`(?:POST|GET) (/v1/[\w/:.]+)`", DOCUMENT.read_text()))
    assert named == {"/v1/answer", "/v1/chat/completions", "/v1/models", "/v1/answers:batch"}
    assert named <= routes.keys()
