from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pytest

from probes.types import NOTHING, Query
from service.engines.base import EngineError
from service.engines.build import ENGINES, build_engine, serving_engine
from service.settings import Settings


def test_every_listed_engine_is_built_unstarted() -> None:
    for name in ENGINES:
        assert not build_engine(name, "some/model").healthy


def test_the_engine_holds_all_that_admitted_questions_need(bundled: Any) -> None:
    settings = Settings(engine="fake", max_inflight=200)
    engine = serving_engine(settings, bundled())

    async def ask_all() -> None:
        await engine.start()
        query = Query(np.zeros((2, 2, 3), np.uint8), "q")
        answers = (engine.generate(query, NOTHING) for _ in range(settings.max_inflight))
        samples = (
            engine.sample(query, 5, temperature=1.0, top_p=1.0, seed=0)
            for _ in range(settings.max_inflight)
        )
        await asyncio.gather(*answers, *samples)

    asyncio.run(ask_all())


def test_another_name_is_refused() -> None:
    with pytest.raises(EngineError, match="'gpt' is not one of transformers, vllm, fake"):
        build_engine("gpt", "some/model")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.engines.transformers.engine", None)
    with pytest.raises(EngineError, match="extra 'transformers'"):
        build_engine("transformers", "some/model")
