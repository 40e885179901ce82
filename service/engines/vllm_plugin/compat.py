"""Every attribute of vLLM that is not public, in one place. Written for 0.26 to 0.33.

Two model runners exist: V1 (``vllm.v1.worker.gpu_model_runner``, also under the CPU's) and V2
(``vllm.v1.worker.gpu.model_runner``). What differs between them is answered here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from service.engines.vllm_plugin.record import KEY, PROMPT

V2 = "vllm.v1.worker.gpu.model_runner"
RUNNERS = (
    ("vllm.v1.worker.gpu_model_runner", "GPUModelRunner"),
    ("vllm.v1.worker.cpu_model_runner", "CPUModelRunner"),
    (V2, "GPUModelRunner"),
)
AUX_ARCHITECTURES = ("LlavaForConditionalGeneration", "Qwen2VLForConditionalGeneration")
"""Models whose decoder hands out hidden states by vLLM's own path and whose outer part lets them
through. Every other decoder is tapped."""
READABLE = ("FLASH_ATTN", "TRITON_ATTN", "TRITON_FLASH_ATTN", "FLEX_ATTENTION", "CPU_ATTN")
"""Attention backends that keep keys and values side by side and whose steps say where the queries
and the blocks of each request lie. FlashInfer's do not."""


class Incompatible(RuntimeError):
    """This vLLM lacks something that the plugin builds on, or runs in a way that it cannot read."""


def need(holder: Any, path: str) -> Any:
    """An attribute of an attribute..., or Incompatible that names it."""
    found = holder
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            import vllm

            raise Incompatible(
                f"vLLM {vllm.__version__}: {type(holder).__name__}.{path} is missing ({name}); "
                "versions 0.26 to 0.32 are known to work"
            ) from None
    return found


def runner_classes() -> list[type[Any]]:
    """The model runners that this build of vLLM has."""
    found: list[type[Any]] = []
    for module, name in RUNNERS:
        try:
            found.append(getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError):
            continue  # the CPU build has no V2 runner, the CUDA build no CPU runner
    if not found:
        raise Incompatible("this vLLM has none of the model runners known: V1, CPU, V2")
    return found


def scheduler_class() -> Any:
    """The scheduler that every other one derives from."""
    return importlib.import_module("vllm.v1.core.sched.scheduler").Scheduler


def async_output_class() -> Any:
    """Base class of outputs that are still being copied to the host."""
    return importlib.import_module("vllm.v1.outputs").AsyncModelRunnerOutput


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot take."""
    raised = importlib.import_module("vllm.exceptions")
    return ValueError, getattr(raised, "VLLMClientError", raised.VLLMValidationError)


def failures() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it gives up; the refusals may be among them."""
    failed = importlib.import_module("vllm.v1.engine.exceptions").EngineGenerateError
    return failed, getattr(importlib.import_module("vllm.exceptions"), "VLLMError", failed)


def gate_config(vllm_config: Any) -> Mapping[str, Any] | None:
    """What the engine wishes of the plugin; ``None`` when this vLLM is not the gate's."""
    config = getattr(vllm_config, "additional_config", None)
    found: Mapping[str, Any] | None = config.get(KEY) if isinstance(config, dict) else None
    return found


def knows_ranges(attention: Any) -> bool:
    """Whether an attention layer's backend lets ranges of a prompt attend both ways."""
    return bool(need(attention, "attn_backend.supports_mm_prefix")())


def backend_name(attention: Any) -> str:
    """Of an attention layer, as vLLM's attention_backend names it."""
    return str(need(attention, "attn_backend.get_name")())


def prompt_length(sampling_params: Any) -> int | None:
    """Tokens of a request's prompt, if it is to attend both ways as a whole."""
    extra = getattr(sampling_params, "extra_args", None)
    found: int | None = extra.get(PROMPT) if extra else None
    return found


def place_class() -> Any:
    """Where an image lies in a prompt; its method tells model runners what attends both ways."""
    found = importlib.import_module("vllm.multimodal.inputs").PlaceholderRange
    need(found, "extract_embeds_range")
    return found


def ranges(runner: Any) -> list[int]:
    """Where the ranges of the V1 runner's requests end that attend both ways; 0 without one."""
    found = []
    for name in need(runner, "input_batch.req_ids"):
        features = need(runner, "requests")[name].mm_features
        ends = [
            last + 1 for each in features for _, last in each.mm_position.extract_embeds_range()
        ]
        found.append(max(ends, default=0))
    return found


def asked(sampling_params: Any) -> Mapping[str, Any] | None:
    """What a request asks of the plugin."""
    extra = getattr(sampling_params, "extra_args", None)
    found: Mapping[str, Any] | None = extra.get(KEY) if extra else None
    return found


def decoder_of(model: Any) -> tuple[Any, list[nn.Module]]:
    """The text decoder of a model and its layers."""
    inner = model.get_language_model() if hasattr(model, "get_language_model") else model
    decoder = getattr(inner, "model", inner)
    layers = getattr(decoder, "layers", None)
    if layers is None:
        raise Incompatible(
            f"model: {type(model).__name__} has no list of decoder layers at "
            f"{type(decoder).__name__}.layers"
        )
    return decoder, list(layers)


def hands_out_states(model: Any, decoder: Any) -> bool:
    """Whether vLLM's own path for auxiliary hidden states can be used."""
    known = type(model).__name__ in AUX_ARCHITECTURES
    return known and hasattr(decoder, "_set_aux_hidden_state_layers")


def ask_for_states(runner: Any, decoder: Any, layers: tuple[int, ...]) -> None:
    """Have the decoder hand out hidden states by vLLM's own path."""
    need(runner, "use_aux_hidden_state_outputs")
    decoder._set_aux_hidden_state_layers(layers)
    runner.use_aux_hidden_state_outputs = True


def attention_layer(layer: nn.Module) -> Any | None:
    """A decoder layer's attention as vLLM runs it, or ``None`` when it is not plain attention."""
    from vllm.model_executor.layers.attention import Attention

    found = [module for module in layer.modules() if isinstance(module, Attention)]
    return found[0] if len(found) == 1 else None


def unreadable(attention: Any) -> str | None:
    """Why attention cannot be recomputed from a layer's cache, as a snake_case word."""
    if backend_name(attention) not in READABLE:
        return "unsupported_attention"
    if getattr(attention, "kv_cache_dtype", "auto") not in ("auto", "bfloat16", "float16"):
        return "quantized_kv_cache"
    impl = need(attention, "impl")
    # Some backends choose between two by what is in the batch (0.31 on); only those know the rest.
    variants = impl.get_impl_variants() if hasattr(impl, "get_impl_variants") else (impl,)
    return next(filter(None, map(_uncommon, variants)), None)


def _uncommon(impl: Any) -> str | None:
    window = getattr(impl, "sliding_window", None)
    if window not in (None, (-1, -1), [-1, -1], -1):
        return "sliding_window"
    if getattr(impl, "logits_soft_cap", None):
        return "logits_soft_cap"
    if getattr(impl, "alibi_slopes", None) is not None or getattr(impl, "sinks", None) is not None:
        return "unsupported_attention"
    return None


def keys_and_values(attention: Any) -> tuple[Tensor, Tensor]:
    """The layer's cache as (blocks, key heads, block size, width) each; views, never copies."""
    cache = need(attention, "kv_cache")
    width = need(attention, "head_size")
    if cache.device.type != "cpu":
        keys, values = cache.split(width, dim=-1)
        return keys, values
    # The CPU backend keeps all keys of a block before all its values, and with its AVX kernels a
    # block's keys with the width before the positions.
    blocks, heads, size, _ = cache.shape
    keys, values = cache.view(blocks, heads, 2 * size, -1).chunk(2, dim=2)
    stride = keys.stride()
    turned = keys.as_strided((blocks, heads, width, size), (*stride[:2], size, 1))
    return turned.transpose(2, 3), values


def tensor_parallel_mean(values: Tensor) -> Tensor:
    """Mean over the ranks of tensor parallelism, each of which holds as many heads."""
    from vllm.distributed import get_tp_group

    group = get_tp_group()
    if group.world_size == 1:
        return values
    mean: Tensor = group.all_reduce(values) / group.world_size
    return mean


def image_run(features: Sequence[Any]) -> tuple[int, int]:
    """First position and number of the image tokens of a prompt; (0, 0) when not one run."""
    if len(features) != 1:
        return 0, 0
    place = features[0].mm_position
    if place.is_embed is None:
        return place.offset, place.length
    inside = place.is_embed.nonzero().squeeze(-1).tolist()
    if not inside or inside[-1] - inside[0] + 1 != len(inside):
        return 0, 0
    return place.offset + inside[0], len(inside)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a model runner, between its forward pass and its sampling.

    Args:
        requests: ids, one per row of the batch.
        rows: position of each request's last token in the batch, (requests,); ``None`` when the
            batch holds one token of each, in order, as it does while no prompt is read.
        states: hidden states handed out by vLLM's own path, each (tokens, hidden).
        logits: (requests, vocabulary), where they are computed by now (V1).
        blocks: (attention layer's name) to the table of its cache's blocks, (requests, blocks).
        lengths: keys of each request, (requests,).
    """

    requests: list[str]
    rows: Tensor | None
    states: Sequence[Tensor]
    logits: Tensor | None
    blocks: Callable[[str], Tensor]
    lengths: Tensor


def step_of(runner: Any) -> Step | None:
    """The step that ``sample_tokens`` is about to finish, or ``None`` when there is none."""
    state = need(runner, "execute_model_state")
    if state is None or need(state, "hidden_states") is None:
        return None
    return _v2_step(state) if is_v2(runner) else _v1_step(runner, state)


def is_v2(runner: Any) -> bool:
    """Whether this is the V2 model runner."""
    return any(cls.__module__ == V2 for cls in type(runner).__mro__)


def _v2_step(state: Any) -> Step:
    batch = need(state, "input_batch")
    count = need(batch, "num_reqs")
    metadata = need(state, "attn_metadata")
    single = need(batch, "num_tokens") == count
    return Step(
        requests=list(batch.req_ids[:count]),
        rows=None if single else need(batch, "query_start_loc")[1 : count + 1] - 1,
        states=state.aux_hidden_states or (),
        logits=None,
        blocks=lambda name: need(metadata[name], "block_table")[:count],
        lengths=need(batch, "seq_lens")[:count],
    )


def _v1_step(runner: Any, state: Any) -> Step:
    batch = need(runner, "input_batch")
    count = need(batch, "num_reqs")
    single = need(state, "scheduler_output.total_num_scheduled_tokens") == count

    def blocks(name: str) -> Tensor:
        groups = need(runner, "kv_cache_config.kv_cache_groups")
        at = next(i for i, group in enumerate(groups) if name in group.layer_names)
        table: Tensor = need(batch, "block_table")[at].get_device_tensor(count)
        return table

    return Step(
        requests=list(batch.req_ids[:count]),
        rows=None if single else need(runner, "query_start_loc.gpu")[1 : count + 1] - 1,
        states=need(state, "aux_hidden_states") or (),
        logits=need(state, "logits"),
        blocks=blocks,
        lengths=need(runner, "seq_lens")[:count],
    )


def register_keep() -> None:
    """Define ``torch.ops.vllm.vlm_gate_keep``, which torch.compile leaves where it stands."""
    from vllm.utils.torch_utils import direct_register_custom_op

    if hasattr(torch.ops.vllm, "vlm_gate_keep"):
        return
    direct_register_custom_op(
        "vlm_gate_keep", _keep, mutates_args=["kept"], fake_impl=_keep_nothing
    )


def _keep(kept: torch.Tensor, state: torch.Tensor) -> None:
    kept[: state.shape[0]].copy_(state)


def _keep_nothing(kept: torch.Tensor, state: torch.Tensor) -> None:
    return None
