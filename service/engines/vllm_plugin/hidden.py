"""Hidden states out of the compiled model, at full speed: vLLM's own path, or taps in the layers.

A tap is an operation that copies ``hidden + residual`` into a buffer that outlives the forward
pass. torch.compile and CUDA graphs keep it, since it says that it writes into the buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from service.engines.vllm_plugin import compat

BUFFER = "vlm_gate_kept"


class HiddenStates:
    """Where the hidden states of the armed layers lie after a forward pass.

    Args:
        runner: its model is loaded, and not compiled yet.
        layers: hidden-state indices, ascending.
    """

    def __init__(self, runner: Any, layers: tuple[int, ...]) -> None:
        model = runner.get_model()
        decoder, modules = compat.decoder_of(model)
        wrong = [k for k in layers if not 0 <= k <= len(modules)]
        if wrong:
            raise compat.Incompatible(
                f"layers: {wrong} are outside the model's 0 to {len(modules)}"
            )
        self._taps: list[Tensor] = []
        self._native = compat.hands_out_states(model, decoder)
        if not layers:
            return
        if self._native:
            compat.ask_for_states(runner, decoder, layers)
            return
        compat.register_keep()
        shape = (compat.need(runner, "max_num_tokens"), runner.model_config.get_hidden_size())
        for k in layers:
            module = modules[max(k - 1, 0)]
            name = BUFFER if k else f"{BUFFER}_input"
            kept = torch.zeros(shape, dtype=runner.model_config.dtype, device=runner.device)
            module.register_buffer(name, kept, persistent=False)
            if k:
                module.register_forward_hook(_keep_output)
            else:
                module.register_forward_pre_hook(_keep_input, with_kwargs=True)
            self._taps.append(kept)

    def at(self, step: compat.Step) -> Sequence[Tensor]:
        """Per armed layer, (tokens, hidden)."""
        return step.states if self._native else self._taps


def _keep_output(module: nn.Module, args: Any, output: Any) -> None:
    """The residual stream after a layer, whether it is handed on in one part or two."""
    hidden = output
    if isinstance(output, tuple):
        hidden = output[0] if output[1] is None else output[0] + output[1]
    torch.ops.vllm.vlm_gate_keep(getattr(module, BUFFER), hidden)


def _keep_input(module: nn.Module, args: Any, kwargs: Any) -> None:
    """The residual stream before the first layer. Its arguments: positions, hidden, residual."""
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[1]
    torch.ops.vllm.vlm_gate_keep(getattr(module, f"{BUFFER}_input"), hidden)
