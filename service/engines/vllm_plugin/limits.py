"""Ways of running vLLM that are refused, each with its reason and the way out."""

from __future__ import annotations

from typing import Any

from service.engines.vllm_plugin import compat
from service.engines.vllm_plugin.compat import Incompatible


def refuse(vllm_config: Any) -> None:
    """Raise Incompatible for ways of running in which nothing can be read."""
    parallel = vllm_config.parallel_config
    if parallel.pipeline_parallel_size > 1:
        raise Incompatible(
            "pipeline_parallel_size: hidden states of other stages are out of reach; use "
            "tensor_parallel_size"
        )
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) > 1:
            raise Incompatible(f"{name}: not supported; leave it at 1")
    if compat.need(parallel, "use_ubatching"):
        raise Incompatible(
            "enable_dbo, ubatch_size: the parts of a step are not told apart; leave both off"
        )
    if vllm_config.speculative_config is not None:
        raise Incompatible(
            "speculative_config: a step may yield several tokens, whose hidden states are not "
            "told apart; turn speculative decoding off"
        )
    if vllm_config.model_config.use_mla:
        raise Incompatible("model: multi-head latent attention (MLA) is not supported")


def refuse_parts(vllm_config: Any) -> None:
    """Raise Incompatible where a prompt that attends both ways as a whole would not."""
    model, scheduler = vllm_config.model_config, vllm_config.scheduler_config
    if not compat.need(model, "is_mm_prefix_lm"):
        raise Incompatible("model: vLLM attends causally to the whole of it; use another engine")
    if compat.need(scheduler, "enable_chunked_prefill") or scheduler.long_prefill_token_threshold:
        raise Incompatible(
            "enable_chunked_prefill, long_prefill_token_threshold: a part of a prompt cannot "
            "attend to what follows it; leave both off"
        )
    mode = compat.need(vllm_config, "compilation_config.cudagraph_mode")
    if mode is not None and mode.mixed_mode().name == "FULL":
        raise Incompatible(
            f"cudagraph_mode: {mode.name} keeps the causal mask of its capture for every prompt; "
            "use FULL_AND_PIECEWISE"
        )
    window = compat.need(model, "get_sliding_window")()
    if window is not None and window < model.max_model_len:
        raise Incompatible(
            f"max_model_len: longer prompts than the sliding window would be read causally; set "
            f"VLM_GATE_VLLM_MAX_MODEL_LEN to {window} or less"
        )


def refuse_causal(attention: Any) -> None:
    """Raise Incompatible for an attention layer whose backend knows no ranges."""
    if not compat.knows_ranges(attention):
        raise Incompatible(
            f"attention_backend: {compat.backend_name(attention)} reads image and question "
            "causally, for which this model was not trained; use TRITON_ATTN, or the engine "
            "transformers"
        )
