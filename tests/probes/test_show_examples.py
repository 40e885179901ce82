"""A report's examples: asked again of the model that was evaluated, and of no other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probes.errors import StoreError
from probes.judge.evaluate import evaluate
from probes.report.report import load_evaluation
from probes.types import AttentionMaps, Missing
from service.offline import show_examples as module
from service.offline.show_examples import show_examples


@pytest.fixture(scope="module")
def folder(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("examples") / "evaluation"
    evaluate(run.store, run.certified, out, resamples=20)
    return out


@pytest.fixture
def engine(synthetic: type, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine that the run was collected with, started and closed as others are."""

    class Started(synthetic):  # type: ignore[misc]
        closed = False

        async def start(self) -> None:
            pass

        async def close(self) -> None:
            self.closed = True

    started = Started()
    monkeypatch.setattr(module, "collection_engine", lambda: started)
    return started


def show(run: Any, folder: Path) -> Any:
    return asyncio.run(show_examples(folder, run.root / "store"))


def test_every_example_comes_with_its_image_and_attention(
    run: Any, folder: Path, engine: Any
) -> None:
    shown = show(run, folder)
    examples = load_evaluation(folder)[0]["examples"]
    assert [one.example for one in shown] == examples
    assert len(shown) > 0
    for one in shown:
        assert one.image.shape == (16, 16, 3)
        assert isinstance(one.attention, AttentionMaps)
    assert engine.closed


def test_another_answer_has_no_attention_to_show(
    run: Any, folder: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = engine.generate

    async def other(*arguments: Any) -> Any:
        return replace(await generate(*arguments), answer="no")

    monkeypatch.setattr(engine, "generate", other)
    assert {one.attention for one in show(run, folder)} == {Missing("other_answer")}


def test_another_model_or_run_is_refused(
    run: Any, folder: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "identity", replace(engine.identity, revision="r2"))
    with pytest.raises(StoreError, match="model: revision is 'r2'"):
        show(run, folder)
    assert engine.closed
    with pytest.raises(StoreError, match="is this a collected run"):
        asyncio.run(show_examples(folder, tmp_path))
