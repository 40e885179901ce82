"""Two workers, each a process, collect a dataset; merged it is what one would collect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from probes.data.datasets import load_dataset
from probes.data.partition import merge, take_shard
from probes.data.store import load
from probes.errors import DataError, StoreError
from service.cli import app

IMAGES, QUESTIONS = 9, 2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for index in range(IMAGES):
        picture = np.full((16, 16, 3), 20 * index, dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
        for number in range(QUESTIONS):
            fields = {
                "id": f"{index}-{number}",
                "image": f"{index}.png",
                "question": f"Is number {number} there?",
                "references": ["yes"],
                "rule": "yes_no",
            }
            lines.append(json.dumps(fields))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "questions.jsonl"


def start_worker(dataset: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("VLM_GATE_")}
    words = ["collect", dataset, "--out", out, "--samples", "2", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "service.cli", *words],
        env={**kept, "VLM_GATE_ENGINE": "fake"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `0` and `1` of two workers at once, and `whole` of one alone."""
    folder = tmp_path_factory.mktemp("runs")
    workers = [
        start_worker(dataset, folder / "0", "--shard", "0/2"),
        start_worker(dataset, folder / "1", "--shard", "1/2"),
        start_worker(dataset, folder / "whole"),
    ]
    told = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], told
    return folder


def test_merged_they_are_what_one_would_collect(runs: Path, tmp_path: Path) -> None:
    words = ["merge", str(runs / "0"), str(runs / "1"), "--out", str(tmp_path / "merged")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert f"{IMAGES * QUESTIONS} answers of 2 parts" in told.stdout

    merged, whole = load(tmp_path / "merged"), load(runs / "whole")
    order = [merged.records.index(record) for record in whole.records]
    assert sorted(order) == list(range(IMAGES * QUESTIONS))
    for place in whole.setup.readouts:
        np.testing.assert_array_equal(merged.hidden(place)[order], whole.hidden(place))
    for name in ("present", "attention", "attention_present", "image_features"):
        np.testing.assert_array_equal(
            getattr(merged.arrays, name)[order], getattr(whole.arrays, name)
        )
    again = merge([runs / "0", runs / "1"], tmp_path / "again")
    assert again.setup.dataset == merged.setup.dataset != whole.setup.dataset


def test_parts_that_do_not_belong_together_are_refused_by_name(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"runs.*/0: shares an image with"):
        merge([runs / "whole", runs / "0"], tmp_path / "twice")
    with pytest.raises(StoreError, match="no parts"):
        merge([], tmp_path / "none")
    merge([runs / "0"], tmp_path / "done")
    with pytest.raises(StoreError, match="holds a run already"):
        merge([runs / "0"], tmp_path / "done")
    told = CliRunner().invoke(app, ["merge", str(runs), "--out", str(tmp_path / "x")])
    assert told.exit_code == 1
    assert "is this a collected run?" in told.stderr


def test_parts_of_other_settings_are_refused(runs: Path, dataset: Path, tmp_path: Path) -> None:
    other = start_worker(dataset, tmp_path / "other", "--shard", "1/2", "--max-tokens", "5")
    other.communicate(timeout=120)
    with pytest.raises(StoreError, match="other: generation is"):
        merge([runs / "0", tmp_path / "other"], tmp_path / "merged")


def test_every_image_falls_to_exactly_one_worker(dataset: Path) -> None:
    examples, _ = load_dataset(dataset)
    parts = [take_shard(examples, f"{index}/4") for index in range(4)]
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in examples)
    images = [{one.image_path for one in part} for part in parts]
    assert sum(map(len, images)) == IMAGES
    assert max(map(len, images)) - min(map(len, images)) <= 1


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "1", "1/0", "a/b", "0/2/3"])
def test_what_is_no_shard_is_refused(dataset: Path, shard: str) -> None:
    examples, _ = load_dataset(dataset)
    with pytest.raises(DataError, match="write i/n"):
        take_shard(examples, shard)


def test_more_workers_than_images_are_told(dataset: Path) -> None:
    examples, _ = load_dataset(dataset)
    with pytest.raises(DataError, match=f"there are {IMAGES} images"):
        take_shard(examples, "20/21")


def test_the_layers_asked_for_are_read(dataset: Path, tmp_path: Path) -> None:
    worker = start_worker(dataset, tmp_path / "run", "--layers", "3,1")
    told, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, told
    assert {layer for layer, _ in load(tmp_path / "run").setup.readouts} == {1, 3}


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ("1;2", "layers: '1;2' is not a list of numbers such as 8,16,24"),
        ("0,2", "layers: 0 is no layer of a decoder; they count from 1"),
        ("2,99", "layers: 99: the decoder has"),
    ],
)
def test_layers_that_there_are_not(layers: str, told: str, dataset: Path, tmp_path: Path) -> None:
    worker = start_worker(dataset, tmp_path / "run", "--layers", layers)
    said, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert told in said
