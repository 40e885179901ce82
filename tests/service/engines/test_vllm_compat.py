"""What differs between versions of vLLM, on stand-ins of 0.26's and 0.33's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from service.engines.base import EngineError, QueryRefused
from service.engines.vllm.engine import VllmEngine
from service.engines.vllm_plugin import compat


def impl(**other: Any) -> Any:
    usual = {"sliding_window": (-1, -1), "logits_soft_cap": 0, "alibi_slopes": None, "sinks": None}
    return SimpleNamespace(**{**usual, **other})


def composite(*variants: Any) -> Any:
    """Of 0.31 on: the parts' peculiarities are not its own."""
    return SimpleNamespace(num_heads=4, head_size=8, scale=1.0, get_impl_variants=lambda: variants)


def layer(found: Any, backend: str = "FLASH_ATTN", cache: str = "auto") -> Any:
    named = SimpleNamespace(get_name=lambda: backend)
    return SimpleNamespace(attn_backend=named, impl=found, kv_cache_dtype=cache)


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (layer(impl()), None),
        (layer(impl(sliding_window=-1), "CPU_ATTN"), None),
        (layer(composite(impl(), impl()), "TRITON_FLASH_ATTN"), None),
        (layer(impl(), cache="fp8"), "quantized_kv_cache"),
        (layer(impl(sliding_window=(4095, 0))), "sliding_window"),
        (layer(impl(logits_soft_cap=50.0)), "logits_soft_cap"),
        (layer(impl(sinks=object())), "unsupported_attention"),
        (layer(composite(impl(), impl(logits_soft_cap=50.0))), "logits_soft_cap"),
        (layer(composite(impl(sliding_window=(4095, 0)), impl())), "sliding_window"),
        (layer(impl(), "FLASHINFER"), "unsupported_attention"),
        (layer(composite(impl(), impl()), "TRITON_FLASHINFER"), "unsupported_attention"),
    ],
)
def test_attention_is_read_where_it_can_be(attention: Any, reason: str | None) -> None:
    assert compat.unreadable(attention) == reason


class Raised(ModuleType):
    """A module of exceptions."""

    def __init__(self, name: str, **classes: type[Exception]) -> None:
        super().__init__(name)
        vars(self).update(classes)


def exceptions(version: str) -> tuple[ModuleType, ModuleType]:
    """``vllm.exceptions`` and ``vllm.v1.engine.exceptions``: since 0.29 all are of one family."""
    if version == "0.26":
        refused = type("VLLMValidationError", (ValueError,), {})
        family = Raised("vllm.exceptions", VLLMValidationError=refused)
        server: type[Exception] = Exception
    else:
        root = type("VLLMError", (Exception,), {})
        client, server = (type(f"VLLM{name}Error", (root,), {}) for name in ("Client", "Server"))
        family = Raised(
            "vllm.exceptions",
            VLLMError=root,
            VLLMClientError=client,
            VLLMValidationError=type("VLLMValidationError", (client,), {}),
            VLLMNotFoundError=type("VLLMNotFoundError", (client,), {}),
            QueueOverflowError=type("QueueOverflowError", (root,), {}),
            RetryableRequestError=type("RetryableRequestError", (server,), {}),
        )
    engine = Raised(
        "vllm.v1.engine.exceptions",
        EngineGenerateError=type("EngineGenerateError", (server,), {}),
        EngineDeadError=type("EngineDeadError", (server,), {}),
    )
    return family, engine


@pytest.mark.parametrize(
    ("version", "name", "said", "refused"),
    [
        ("0.26", "VLLMValidationError", "refuses the request", True),
        ("0.26", "EngineGenerateError", "vLLM failed", False),
        ("0.26", "EngineDeadError", "has died", False),
        ("0.33", "VLLMValidationError", "refuses the request", True),
        ("0.33", "VLLMNotFoundError", "refuses the request", True),
        ("0.33", "EngineGenerateError", "vLLM failed", False),
        ("0.33", "EngineDeadError", "has died", False),
        ("0.33", "QueueOverflowError", "vLLM failed: told", False),
        ("0.33", "RetryableRequestError", "vLLM failed: told", False),
    ],
)
def test_errors_of_vllm_are_the_engines(
    monkeypatch: pytest.MonkeyPatch, version: str, name: str, said: str, refused: bool
) -> None:
    family, engine_errors = exceptions(version)
    for module in (family, engine_errors):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    error = {**vars(family), **vars(engine_errors)}[name]

    async def generate(*args: Any) -> AsyncIterator[Any]:
        raise error("told")
        yield

    engine = VllmEngine("m")
    engine._llm = SimpleNamespace(generate=generate)
    with pytest.raises(EngineError, match=said) as found:
        asyncio.run(engine._run({}, None))
    assert isinstance(found.value, QueryRefused) == refused
