from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from probes.data.collect import collect, dataset_hash
from probes.data.datasets import load_dataset
from probes.data.groups import Groups, group, warnings_of
from probes.data.near_duplicates import look
from probes.data.splits import split_by_image, splits_of
from probes.data.store import NO_LOOKS, Store, load
from probes.errors import StoreError
from probes.fit.train import SHARES
from probes.report import report
from probes.types import GenerationSettings, Missing


@pytest.fixture
def gathered(tmp_path: Path, synthetic: Any) -> Any:
    """A run of images, each with two questions, and the groups that their lines name."""

    def make(images: list[np.ndarray], names: list[str | None], folder: str = "run") -> Store:
        data = tmp_path / f"{folder}-data"
        data.mkdir()
        lines = []
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            Image.fromarray(image).save(data / f"{number}.png")
            for question in ("Is it there?", "Is it whole?"):
                line = {"image": f"{number}.png", "question": question, "answers": ["yes"]}
                lines.append(json.dumps(line if name is None else {**line, "group": name}))
        (data / "q.jsonl").write_text("\n".join(lines))
        examples, problems = load_dataset(data / "q.jsonl")
        assert problems == ()
        settings = GenerationSettings(max_tokens=8, samples=0)
        return asyncio.run(
            collect(examples, synthetic(), tmp_path / folder, generation=settings, shard_size=4)
        )

    return make


def scene(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(30, 220, size=(8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(cells).resize((64, 64)))


def frame(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-4, 5, size=image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def partition(store: Store) -> list[list[int]]:
    """Numbers of the images in each group."""
    labels = store.groups[::2]
    assert (labels == store.groups[1::2]).all()  # both questions of an image
    found = {label: [i for i, one in enumerate(labels) if one == label] for label in labels}
    return sorted(found.values())


def test_alone_an_image_is_its_own_group_by_its_hash(gathered: Any) -> None:
    store = gathered([scene(0), scene(1), scene(2)], [None] * 3)
    assert list(store.groups) == [record.image_hash for record in store.records]
    assert store.grouping.pairs == ()
    assert (store.grouping.joined, store.grouping.largest) == (0, 1)
    assert warnings_of(store.grouping, store.records) == []


def test_names_hashes_and_looks_join_through_each_other(gathered: Any) -> None:
    one, two = scene(0), scene(1)
    images = [one, frame(one, 5), two, one, scene(2), scene(3), scene(4)]
    store = gathered(images, [None, None, "a", "a", "b", None, None])
    assert partition(store) == [[0, 1, 2, 3], [4], [5], [6]]
    assert store.groups[0] == "a"
    assert store.groups[8] == "b"
    assert store.grouping.joined == pytest.approx(3 / 6)  # of six different images
    assert store.grouping.largest == 3
    (pair,) = store.grouping.pairs
    assert {pair.first // 2, pair.second // 2} == {0, 1}


def test_frames_take_the_smallest_hash_for_their_label(gathered: Any) -> None:
    images = [frame(scene(0), seed) for seed in range(4)]
    store = gathered(images, [None] * 4)
    assert set(store.groups) == {min(record.image_hash for record in store.records)}
    (warning,) = warnings_of(store.grouping, store.records)
    assert "largest: 4 of 4 images" in warning
    assert "0.png" in warning
    assert "line-" in warning


def test_named_apart_stays_apart(gathered: Any) -> None:
    images = [frame(scene(0), seed) for seed in range(3)]
    store = gathered(images, ["part-1", "part-2", "part-2"])
    assert partition(store) == [[0], [1, 2]]


def test_equal_images_with_two_names_are_one_group(gathered: Any) -> None:
    store = gathered([scene(0), scene(0), scene(1)], ["b", "a", "b"])
    assert set(store.groups) == {"a"}


def test_a_run_of_before_is_grouped_by_its_hashes(gathered: Any, tmp_path: Path) -> None:
    store = gathered([scene(0), frame(scene(0), 1)], [None] * 2)
    old = dataclasses.replace(store, arrays=dataclasses.replace(store.arrays, looks=NO_LOOKS))
    assert list(old.groups) == [record.image_hash for record in store.records]
    assert old.grouping.pairs == NO_LOOKS
    assert old.grouping.nearest() == NO_LOOKS
    assert warnings_of(old.grouping, old.records) == []
    assert load(tmp_path / "run").groups.tolist() == store.groups.tolist()


def test_the_group_is_kept_on_disk(gathered: Any, tmp_path: Path) -> None:
    gathered([scene(0), scene(1)], ["part", None])
    table = pq.read_table(tmp_path / "run" / "shard-00000.parquet")
    assert table["group"].to_pylist() == ["part", "part", None, None]
    assert [one.group for one in load(tmp_path / "run").records] == ["part", "part", None, None]


@pytest.mark.parametrize("cell", ["part-7", ""])
def test_a_csv_names_groups_in_a_column(tmp_path: Path, cell: str) -> None:
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    (tmp_path / "q.csv").write_text(f"image,question,answers,group\na.png,Is it?,yes,{cell}\n")
    (example,), problems = load_dataset(tmp_path / "q.csv")
    assert problems == ()
    assert example.group == (cell or None)


def test_a_group_that_is_no_name_is_a_problem(tmp_path: Path) -> None:
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    line = {"image": "a.png", "question": "Is it?", "answers": ["yes"], "group": 7}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    _, (problem,) = load_dataset(tmp_path / "q.jsonl")
    assert "group: missing or not a text" in str(problem)


def test_a_name_makes_another_dataset_and_none_the_one_of_before(tmp_path: Path) -> None:
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    line = {"image": "a.png", "question": "Is it?", "answers": ["yes"]}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    (plain,), _ = load_dataset(tmp_path / "q.jsonl")
    named = dataclasses.replace(plain, group="a")
    assert len({dataset_hash([one]) for one in (plain, named)}) == 2


def test_frames_never_lie_in_two_splits(gathered: Any) -> None:
    images = [frame(scene(number // 5), number) for number in range(40)]
    store = gathered(images, [None] * 40)
    splits = split_by_image(store.groups.tolist(), SHARES, 0)
    by_hash = split_by_image([one.image_hash for one in store.records], SHARES, 0)
    scenes = np.repeat(np.arange(8), 10)
    assert all(np.unique(splits[scenes == one]).size == 1 for one in range(8))
    assert any(np.unique(by_hash[scenes == one]).size > 1 for one in range(8))


def test_a_bundle_refuses_a_run_that_is_grouped_otherwise(run: Any) -> None:
    store, bundle = run.store, run.trained
    assert (splits_of(store, bundle) == "test").any()
    first, *rest = store.records
    other = dataclasses.replace(store, records=(dataclasses.replace(first, group="a"), *rest))
    with pytest.raises(StoreError, match="grouped otherwise"):
        splits_of(other, bundle)


def test_how_alike_the_images_are(run: Any) -> None:
    near = run.store.grouping.nearest()
    assert not isinstance(near, Missing)
    assert len(near) == len(run.store.grouping.images)
    assert (near > 0.1).all()


def test_one_group_has_no_other(run: Any) -> None:
    first = run.store.records[0]
    alone: Groups = group([first], look(scene(0))[None])
    assert alone.nearest() == Missing("one_group")


def test_likeness_is_told(gathered: Any) -> None:
    store = gathered([scene(0), frame(scene(0), 1), scene(1), scene(2)], [None] * 4)
    told = store.grouping.likeness()
    assert (told["images"], told["groups"], told["largest"], told["joined"]) == (4, 3, 2, 0.5)
    assert told["looks_alike"] == 1
    assert 0.5 < told["nearest"]["0.01"] <= told["nearest"]["0.5"] < 2
    (said,) = report._likeness(told)
    assert "4 images in 3 groups (at most 2 in one)" in said
    assert "50.0% of the images share a group" in said
    (unknown,) = report._likeness({**told, "nearest": {"missing": "not_collected"}})
    assert "not known (not collected)" in unknown
    assert report._likeness(None) == []
