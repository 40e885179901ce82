"""vLLM's arguments: those that matter here, and any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.engines.base import EngineError
from service.engines.vllm_plugin.record import KEY

OURS = frozenset(
    {
        "model", "dtype", "quantization", "tensor_parallel_size", "gpu_memory_utilization",
        "max_model_len", "max_num_seqs", "enforce_eager", "additional_config",
        "worker_extension_cls", "limit_mm_per_prompt", "mm_processor_kwargs",
        "mm_processor_cache_gb",
    }
)  # fmt: skip
REFUSED = {
    "pipeline_parallel_size": "hidden states of other stages are out of reach; use "
    "VLM_GATE_VLLM_TENSOR_PARALLEL_SIZE",
    "speculative_config": "a step may yield several tokens whose hidden states are not told apart",
}
PARTS = ("enable_chunked_prefill", "long_prefill_token_threshold")
"""Arguments by which a prompt is computed in parts."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Arguments of vLLM.

    Args:
        quantization: such as ``fp8``; ``None`` keeps the checkpoint's own.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: share of the GPU's memory that vLLM may take.
        max_model_len: most tokens of prompt and answer; ``None`` takes the model's.
        max_num_seqs: most requests in one step; ``None`` takes vLLM's default.
        enforce_eager: neither compile nor capture graphs; starts sooner, runs slower.
        arguments: any other argument of vLLM's AsyncEngineArgs.
    """

    quantization: str | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    enforce_eager: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def engine_arguments(
    model: str,
    dtype: str,
    options: VllmOptions,
    layers: tuple[int, ...],
    attention_layers: tuple[int, ...],
    processor: Mapping[str, Any],
    whole_prompts: bool = False,
) -> dict[str, Any]:
    """Keyword arguments of AsyncEngineArgs. Raises EngineError for one that cannot be passed.

    Args:
        layers: hidden-state indices to arm; attention_layers: decoder layers, 1-based.
        processor: how vLLM is to load the checkpoint's processor.
        whole_prompts: prompts attend both ways as a whole, and so never come in parts.
    """
    for name, reason in REFUSED.items():
        if options.arguments.get(name) not in (None, 1):
            raise EngineError(f"vllm_arguments.{name}: {reason}")
    taken = sorted(OURS & set(options.arguments))
    if taken:
        raise EngineError(f"vllm_arguments.{taken[0]}: the gate sets it; see docs/settings.md")
    whole: dict[str, Any] = {}
    if whole_prompts:
        parts = [name for name in PARTS if options.arguments.get(name)]
        if parts:
            raise EngineError(
                f"vllm_arguments.{parts[0]}: this model's prompts attend both ways, and a part of "
                "one cannot attend to what follows it; leave it out"
            )
        whole = {"enable_chunked_prefill": False}
    return {
        "disable_log_stats": True,
        **options.arguments,
        **whole,
        "model": model,
        "dtype": dtype,
        "quantization": options.quantization,
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "enforce_eager": options.enforce_eager,
        "limit_mm_per_prompt": {"image": 1},
        "mm_processor_kwargs": dict(processor),
        # Two caches, here and in the engine core, that differ for good once a request is given up
        # between them; what it saves is found in the prefix cache anyway.
        "mm_processor_cache_gb": 0,
        "worker_extension_cls": "service.engines.vllm_plugin.worker.WorkerCalls",
        # Part of the key of vLLM's compile cache, so a graph without taps is never taken.
        "additional_config": {
            KEY: {
                "layers": list(layers),
                "attention_layers": list(attention_layers),
                "whole_prompts": whole_prompts,
            }
        },
    }
