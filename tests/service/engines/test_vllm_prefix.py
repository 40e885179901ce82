"""Prompts that attend both ways, on stand-ins; on vLLM itself by ``make test-vllm``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from service.engines.base import EngineError
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm_plugin import compat, limits, prefix
from service.engines.vllm_plugin.record import PROMPT

NUMBERS = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Place:
    """vLLM's PlaceholderRange, 0.26 to 0.33."""

    offset: int
    length: int
    is_embed: torch.Tensor | None = None

    def extract_embeds_range(self) -> list[tuple[int, int]]:
        return [(self.offset, self.offset + self.length - 1)]


class Layer:
    """An attention layer on a backend of the GPU."""

    def __init__(self, knows: bool) -> None:
        self.attn_backend = SimpleNamespace(
            supports_mm_prefix=lambda: knows, get_name=lambda: "FLASH_ATTN"
        )


def config(**change: Any) -> Any:
    mode = SimpleNamespace(
        name="FULL_AND_PIECEWISE", mixed_mode=lambda: SimpleNamespace(name=mixed)
    )
    mixed = change.get("mixed", "PIECEWISE")
    return SimpleNamespace(
        model_config=SimpleNamespace(
            is_mm_prefix_lm=change.get("both_ways", True),
            get_sliding_window=lambda: change.get("window"),
            max_model_len=2048,
        ),
        scheduler_config=SimpleNamespace(
            enable_chunked_prefill=change.get("chunks", False),
            long_prefill_token_threshold=change.get("threshold", 0),
        ),
        compilation_config=SimpleNamespace(cudagraph_mode=mode),
    )


def runner(knows: bool = True) -> Any:
    decoder = SimpleNamespace(layers=[Layer(knows)])
    return SimpleNamespace(
        vllm_config=config(),
        device=torch.device("cuda"),
        get_model=lambda: SimpleNamespace(model=decoder),
    )


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compat, "place_class", lambda: Place)
    monkeypatch.setattr(compat, "attention_layer", lambda module: module)
    prefix._whole_prompt.cache_clear()
    yield
    prefix._whole_prompt.cache_clear()


def request(length: int | None, *places: Place) -> Any:
    extra = None if length is None else {PROMPT: length}
    features = [SimpleNamespace(mm_position=place) for place in places]
    return SimpleNamespace(sampling_params=SimpleNamespace(extra_args=extra), mm_features=features)


def test_the_range_is_the_prompt_and_the_image_stays_where_it_is() -> None:
    mask = torch.tensor([True, True, False])
    asked, other, resumed = request(9, Place(0, 3, mask)), request(None, Place(0, 3)), request(7)
    prompts = prefix.WholePrompts(runner())
    prompts.scheduled([asked, other, resumed])
    prompts.scheduled([asked])  # it comes back after preemption
    [place] = (feature.mm_position for feature in asked.mm_features)
    assert place.extract_embeds_range() == [(0, 8)]
    assert (place.offset, place.length) == (0, 3)
    assert place.is_embed is mask
    assert isinstance(place, Place)
    assert other.mm_features[0].mm_position.extract_embeds_range() == [(0, 2)]


def test_a_backend_that_knows_no_ranges_is_refused() -> None:
    with pytest.raises(compat.Incompatible, match="FLASH_ATTN reads image and question causally"):
        prefix.WholePrompts(runner(knows=False))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"both_ways": False}, "causally"),
        ({"chunks": True}, "enable_chunked_prefill"),
        ({"threshold": 8}, "long_prefill_token_threshold"),
        ({"mixed": "FULL"}, "cudagraph_mode"),
        ({"window": 512}, "VLM_GATE_VLLM_MAX_MODEL_LEN to 512"),
    ],
)
def test_ways_of_running_that_cut_a_prompt_are_refused(change: dict[str, Any], said: str) -> None:
    limits.refuse_parts(config())
    limits.refuse_parts(config(window=2048, mixed="NONE"))
    with pytest.raises(compat.Incompatible, match=said):
        limits.refuse_parts(config(**change))


def test_queries_of_the_prompt_attend_to_all_of_it() -> None:
    end, scale = 10, 0.3
    queries = torch.randn(4, 4, 8, generator=NUMBERS)
    keys, values = (torch.randn(3, 2, 4, 8, generator=NUMBERS) for _ in range(2))
    out = torch.empty(4, 32)
    prefix.both_ways(queries, keys, values, end, scale, out)
    for at, query in enumerate(queries):
        for head in range(4):
            flat = [part[:, head // 2].reshape(12, 8)[:end] for part in (keys, values)]
            expected = (flat[0] @ query[head] * scale).softmax(0) @ flat[1]
            torch.testing.assert_close(out[at].view(4, 8)[head], expected)


def test_ranges_of_the_runner_end_where_the_prompts_do() -> None:
    long = SimpleNamespace(mm_features=[SimpleNamespace(mm_position=prefix.whole(Place(0, 3), 9))])
    batch = SimpleNamespace(req_ids=["text", "long"])
    requests = {"long": long, "text": SimpleNamespace(mm_features=[])}
    assert compat.ranges(SimpleNamespace(input_batch=batch, requests=requests)) == [0, 9]


def judged(first: float, dtype: str, missing: str | None = None) -> VllmEngine:
    """An engine of layers 1 and 2 that has judged what its check found."""
    engine = VllmEngine("m", attention_layers=(1, 2))
    engine._prompts = cast(Any, SimpleNamespace(attend_both_ways=True))
    engine.attention_missing = missing
    engine._judge([{"first": first, "1": 0.0, "2": 1e-4}], dtype)
    return engine


def test_attention_that_the_check_finds_causal_is_refused() -> None:
    assert judged(9e-4, "float32").attention_missing is None
    assert judged(2e-2, "bfloat16").attention_missing is None
    for found, dtype in ((0.4, "bfloat16"), (2e-3, "float32"), (math.inf, "bfloat16")):
        with pytest.raises(EngineError, match="otherwise than the model was trained"):
            judged(found, dtype)
    assert judged(math.inf, "float32", "sliding_window").attention_missing == "sliding_window"
