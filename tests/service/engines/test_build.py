from __future__ import annotations

import sys

import pytest

from service.engines.base import EngineError
from service.engines.build import ENGINES, build_engine


def test_every_listed_engine_is_built_unstarted() -> None:
    for name in ENGINES:
        assert not build_engine(name, "some/model").healthy


def test_another_name_is_refused() -> None:
    with pytest.raises(EngineError, match="'gpt' is not one of transformers, vllm, fake"):
        build_engine("gpt", "some/model")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.engines.transformers", None)
    with pytest.raises(EngineError, match="extra 'transformers'"):
        build_engine("transformers", "some/model")
