"""Collection into a store: resumed, checked, and the same as what is served."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probes.data.collect import collect, dataset_hash
from probes.data.columns import StoreView, measure_risk
from probes.data.datasets.example import Example
from probes.data.images import load_image
from probes.data.store import load
from probes.errors import DataError, QuestionRefused, StoreError
from probes.pictures.container import Limits
from probes.readouts import default_layers
from probes.signals.consistency import measure_consistency
from probes.signals.measure import measure
from probes.signals.sampling import CHUNK, draw_chunk, image_hash, sample_seed
from probes.types import GenerationSettings, HiddenStateProbe, Missing, Query
from tests.probes.pictures.cases import cases
from tests.probes.pictures.damaged import damaged, lost


def _synthetic() -> ModuleType:
    """The conftest's synthetic engine, which --import-mode=importlib does not let us import."""
    spec = importlib.util.spec_from_file_location(
        "synthetic", Path(__file__).parents[1] / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic"] = module
    spec.loader.exec_module(module)
    return module


synthetic = _synthetic()
SETTINGS = GenerationSettings(max_tokens=8, samples=6)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, ...]:
    path = synthetic.write_dataset(tmp_path_factory.mktemp("d") / "data", images=5, questions=2)
    found: tuple[Example, ...] = synthetic.examples_of(path)
    return found


def gather(examples: Any, out: Path, engine: Any = None, **options: Any) -> Any:
    options = {"generation": SETTINGS, "shard_size": 4, **options}
    return asyncio.run(collect(examples, engine or synthetic.SyntheticEngine(), out, **options))


class Failing(synthetic.SyntheticEngine):  # type: ignore[misc, name-defined]
    """Breaks at the seventh question."""

    async def generate(self, query: Any, readout: Any) -> Any:
        if self.calls == 6:
            raise RuntimeError("out of memory")
        return await super().generate(query, readout)


def test_images_in_a_tar_can_be_read_again(examples: tuple[Example, ...], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for path in {one.image_path for one in examples}:
            tar.add(path, arcname=f"val/{path.name}")
    packed = [
        dataclasses.replace(one, image_path=tmp_path / "images.tar" / "val" / one.image_path.name)
        for one in examples
    ]
    store = gather(packed, tmp_path / "run")
    assert store.setup.dataset == dataset_hash(examples)
    (tmp_path / "elsewhere").mkdir()
    for name in ("run", "images.tar"):  # a run and its images may be moved together
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    for record in load(tmp_path / "elsewhere" / "run").records:
        assert image_hash(load_image(Path(record.image_path))) == record.image_hash


def test_a_run_that_broke_goes_on_and_ends_the_same(
    examples: tuple[Example, ...], tmp_path: Path
) -> None:
    whole = gather(examples, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="out of memory"):
        gather(examples, tmp_path / "broken", Failing())
    with pytest.raises(StoreError, match="not finished"):
        load(tmp_path / "broken")
    engine, done = synthetic.SyntheticEngine(), []
    resumed = gather(examples, tmp_path / "broken", engine, progress=done.append)
    assert engine.calls == 6
    assert sum(done) == len(examples)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.records == whole.records
    for place in whole.setup.readouts:
        np.testing.assert_array_equal(resumed.hidden(place), whole.hidden(place))


def test_a_blank_run_has_the_same_examples_and_other_states(
    examples: tuple[Example, ...], tmp_path: Path
) -> None:
    real = gather(examples, tmp_path / "real")
    blank = gather(examples, tmp_path / "blank", image="blank")
    assert (real.setup.image, blank.setup.image) == ("real", "blank")
    assert blank.setup.dataset == real.setup.dataset
    assert [one.id for one in blank.records] == [one.id for one in real.records]
    assert list(blank.groups) == list(real.groups)  # so that both have the same splits
    assert not np.array_equal(blank.hidden((2, "prompt_last")), real.hidden((2, "prompt_last")))
    with pytest.raises(StoreError, match="image is 'real'"):
        gather(examples, tmp_path / "real", image="blank")


class Huge(synthetic.SyntheticEngine):  # type: ignore[misc, name-defined]
    """Reads a state beyond float16."""

    async def generate(self, query: Any, readout: Any) -> Any:
        generation = await super().generate(query, readout)
        generation.trace.readouts[2, "prompt_last"][0] = 7e4
        return generation


def test_a_state_beyond_float16_is_missing_and_not_infinite(
    examples: tuple[Example, ...], tmp_path: Path
) -> None:
    store = gather(examples, tmp_path / "run", Huge())
    place = store.setup.readouts.index((2, "prompt_last"))
    assert not store.arrays.present[:, place].any()
    assert not store.hidden((2, "prompt_last")).any()


def test_another_setup_does_not_mix_into_a_run(
    examples: tuple[Example, ...], tmp_path: Path
) -> None:
    gather(examples, tmp_path / "run")
    with pytest.raises(StoreError, match="generation"):
        gather(examples, tmp_path / "run", generation=GenerationSettings(max_tokens=9))
    with pytest.raises(StoreError, match="dataset"):
        gather(examples[:-1], tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(StoreError, match="is not empty"):
        gather(examples, tmp_path / "other")


@pytest.mark.parametrize(
    "name", ["shard-00000.safetensors", "shard-00001.parquet", "manifest.json"]
)
def test_a_damaged_file_is_named(examples: tuple[Example, ...], tmp_path: Path, name: str) -> None:
    gather(examples, tmp_path / "run")
    data = bytearray((tmp_path / "run" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run" / name).write_bytes(data)
    with pytest.raises(StoreError, match=name):
        load(tmp_path / "run")


def test_a_bad_image_is_left_out_and_named(tmp_path: Path) -> None:
    path = synthetic.write_dataset(tmp_path / "data", images=2, questions=1)
    (tmp_path / "data" / "1.png").write_text("no image")
    store = gather(synthetic.examples_of(path), tmp_path / "run")
    assert [record.id for record in store.records] == ["0-0"]
    assert "cannot be decoded" in store.skipped["1-0"]
    shutil.copy(tmp_path / "data" / "1.png", tmp_path / "data" / "0.png")
    with pytest.raises(DataError, match="none of 2 examples"):
        gather(synthetic.examples_of(path), tmp_path / "run2")


ODD = {
    "exif junk": (cases()["jpeg exif junk"].file, None),
    "exif cut": (cases()["jpeg exif cut"].file, None),
    "cmyk": (cases()["jpeg cmyk"].file, None),
    "16 bits": (cases()["png 0 16"].file, None),
    "clear": (cases()["png 6 8"].file, None),
    "damaged": (damaged()["jpeg zeroed"], "is damaged"),
    "checksum": (damaged()["png checksum of the rows"], "is damaged"),
    "12 bits in 16": (damaged()["png of 12 bits in 16"], "of fewer bits; scale them"),
    "gif": (b"GIF89a" + bytes(40), "GIF files are not read"),
    "cut": (lost()["jpeg cut"], "cannot be decoded"),
    "empty": (b"", "the image is empty"),
    "scans": (b"\xff\xd8" + b"\xff\xe5\0\2" * 5000, "more than 4096 segments"),
    "wide": (cases()["png 2 8"].file.replace(b"IHDR\0\0\0\x18", b"IHDR\x7f\0\0\x18"), "pixels"),
}
"""Files beside a good one, and what is said of those that are left out."""


def test_odd_images_are_used_or_left_out_with_their_line_and_the_reason(tmp_path: Path) -> None:
    path = synthetic.write_dataset(tmp_path / "data", images=len(ODD), questions=1)
    for index, (file, _) in enumerate(ODD.values()):
        (tmp_path / "data" / f"{index}.png").write_bytes(file)
    store = gather(synthetic.examples_of(path), tmp_path / "run", shard_size=1)
    for index, (_, said) in enumerate(ODD.values()):
        if said is not None:
            why = store.skipped[f"{index}-0"]
            assert said in why
            assert why.startswith(f"line {index + 1}: image: {index}.png")
    used = {f"{index}-0" for index, (_, said) in enumerate(ODD.values()) if said is None}
    assert {record.id for record in store.records} == used


class Picky(synthetic.SyntheticEngine):  # type: ignore[name-defined, misc]
    """Refuses questions as an engine with a vocabulary does."""

    async def generate(self, query: Query, readout: Any) -> Any:
        if "<loc0000>" in query.question or len(query.question) > 500:
            raise QuestionRefused("question: remove <loc0000>, or shorten it")
        return await super().generate(query, readout)


def test_a_question_that_the_engine_refuses_costs_its_own_line(tmp_path: Path) -> None:
    found = synthetic.examples_of(synthetic.write_dataset(tmp_path / "data", images=4, questions=1))
    examples = [
        found[0],
        dataclasses.replace(found[1], question="<loc0000> is it red?"),
        dataclasses.replace(found[2], question="is it red? " * 60),
        found[3],
    ]
    store = gather(examples, tmp_path / "run", Picky())
    assert [record.id for record in store.records] == ["0-0", "3-0"]
    assert store.skipped == {
        f"{line - 1}-0": f"line {line}: question: remove <loc0000>, or shorten it"
        for line in (2, 3)
    }


def test_an_image_that_went_away_costs_its_own_line(tmp_path: Path) -> None:
    path = synthetic.write_dataset(tmp_path / "data", images=3, questions=1)
    examples = synthetic.examples_of(path)
    (tmp_path / "data" / "1.png").unlink()
    store = gather(examples, tmp_path / "run")
    assert [record.id for record in store.records] == ["0-0", "2-0"]
    assert "cannot be read" in store.skipped["1-0"]


def test_images_over_the_limits_of_the_service_are_left_out(tmp_path: Path) -> None:
    path = synthetic.write_dataset(tmp_path / "data", images=2, questions=1)
    Image.new("RGB", (40, 40)).save(tmp_path / "data" / "1.png")
    store = gather(synthetic.examples_of(path), tmp_path / "run", limits=Limits(10**6, 1599))
    assert list(store.skipped) == ["1-0"]
    assert "more than 1599 pixels" in store.skipped["1-0"]


def test_default_layers_are_quarters() -> None:
    assert default_layers(32) == (8, 16, 24, 32)
    assert default_layers(2) == (1, 2)


def test_sampling_is_the_same_for_the_same_request() -> None:
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    assert image_hash(image) != image_hash(image.reshape(3, 2, 3))
    assert sample_seed(Query(image, "a")) == sample_seed(Query(image.copy(), "a", 5))
    assert sample_seed(Query(image, "a")) != sample_seed(Query(image, "b"))
    engine = synthetic.SyntheticEngine()
    chunk = asyncio.run(draw_chunk(engine, Query(image, "a"), SETTINGS, CHUNK, 6))
    assert len(chunk) == 1


def test_columns_of_a_store_are_what_measure_gives_in_service(run: Any) -> None:
    bundle, engine = run.certified, synthetic.SyntheticEngine()
    view = StoreView(run.store, bundle)
    distance, _ = view.distance
    first, second = (measure_risk(view.columns, m) for m in (bundle.stage_one, bundle.stage_two))
    for row in range(0, len(run.store.records), 97):
        record = run.store.records[row]
        query = Query(load_image(Path(record.image_path)), record.question, 8)
        generation = asyncio.run(engine.generate(query, bundle.readout))
        measured = measure(query, generation, bundle)
        sampled = measure_consistency(generation.answer, record.samples, 6)
        for consistency, risk in ((measured.self_consistency, first), (sampled, second)):
            signals = dataclasses.replace(measured, self_consistency=consistency)
            assert isinstance(signals.hidden_state_probe, HiddenStateProbe)
            assert not isinstance(signals.domain, Missing)
            assert bundle.assess(signals).score == pytest.approx(risk[row], abs=1e-6)
            assert signals.domain.distance == pytest.approx(distance[row], rel=1e-5)
            assert signals.attention == record.attention
            assert signals.token_confidence == record.confidence
