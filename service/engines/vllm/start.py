"""Starts vLLM in this process, with the plugin enabled."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Any

from service.engines.base import EngineError
from service.engines.vllm_plugin import SWITCH


def on_cpu() -> bool:
    """Whether this vLLM is its build for CPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def load(arguments: dict[str, Any]) -> Any:
    """Start vLLM. Blocks for as long as that takes. Raises EngineError."""
    try:
        from vllm import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise EngineError(
            f"engine: vllm needs the package {error.name}; install vlm-gate with the extra 'vllm'"
        ) from error
    names = {point.name for point in entry_points(group="vllm.general_plugins")}
    if "vlm_gate" not in names:
        raise EngineError("vllm: the plugin vlm_gate is not installed; install vlm-gate itself")
    # vLLM's processes are children of this one: a fork would copy its threads' locks.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ[SWITCH] = "1"
    if on_cpu():
        arguments = {"enable_chunked_prefill": False, **arguments}  # see VllmEngine.sample
    try:
        # A server's defaults: without it a step holds a quarter of the tokens, on a large GPU.
        context = UsageContext.OPENAI_API_SERVER
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments), usage_context=context)
    except (ValueError, RuntimeError, OSError, TypeError, LookupError) as error:
        raise EngineError(f"vllm: cannot start: {type(error).__name__}: {error}") from error
