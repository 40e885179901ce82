"""The example as a user runs it, against a service on the fake engine."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
from PIL import Image

from service.client import Client
from service.client.retry import ClientError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "inspection_line.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inspection_line", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), shade, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def report(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def run(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "Is it whole?", "--url", url, "--once"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_images_are_sorted_by_their_decision_and_reported(live, tmp_path):
    for shade in range(0, 240, 40):
        (tmp_path / f"plate-{shade:03}.png").write_bytes(picture(shade))
    (tmp_path / "plate-bad.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("left alone")
    with live() as service:
        ended = run(service.url, tmp_path)
        expected = {
            f"plate-{shade:03}.png": httpx.post(
                f"{service.url}/v1/answer",
                data={"question": "Is it whole?"},
                files={"image": picture(shade)},
                timeout=60,
            ).json()["decision"]
            for shade in range(0, 240, 40)
        }
    assert ended.returncode == 0, ended.stderr
    folders = {"accept": "accepted", "escalate": "escalated", "reject": "rejected"}
    lines = report(tmp_path)
    assert len(lines) == 7
    for line in lines:
        assert (tmp_path / str(line["sorted"])).is_file()
        if line["image"] != "plate-bad.png":
            assert line["decision"] == expected[str(line["image"])]
            assert line["sorted"] == f"{folders[expected[str(line['image'])]]}/{line['image']}"
    assert len(set(expected.values())) > 1
    assert (tmp_path / "unreadable" / "plate-bad.png").is_file()
    assert {path.name for path in tmp_path.glob("*.*")} == {"notes.txt", "report.jsonl"}
    assert "7 images" in ended.stdout


def test_an_image_still_being_written_waits_and_names_never_collide(example, live, tmp_path):
    with live(mode="shadow") as service, Client(service.url) as client:
        line = example.Line(tmp_path, "Is it whole?", client, {"line": "3"})
        for _ in range(2):
            half = picture(10)
            (tmp_path / "plate.png").write_bytes(half[:20])
            assert line.look() == 0
            (tmp_path / "plate.png").write_bytes(half)
            assert line.look() == 0
            assert line.look() == 1
    assert len(list((tmp_path / "shadow").iterdir())) == 2
    assert line.summary() == "2 images: 2 shadow"


def test_while_the_service_is_away_images_stay(example, tmp_path):
    (tmp_path / "plate.png").write_bytes(picture(10))
    with Client("http://127.0.0.1:9", tries=1) as client:
        line = example.Line(tmp_path, "Is it whole?", client, {})
        with pytest.raises(ClientError):
            line.look(settled=True)
    assert (tmp_path / "plate.png").is_file()
    assert not (tmp_path / "report.jsonl").exists()
