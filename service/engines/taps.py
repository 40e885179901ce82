"""Reads hidden states and attention rows inside a transformers model while it generates.

Hidden states come from forward hooks on the decoder layers, the last position of each step only.
Attention comes from an attention function that calls SDPA and, beside it, computes the softmax row
of the last query only: the full matrix never exists. A layer that is not asked for costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from probes.types import Readout
from service.engines.base import EngineError

ATTENTION = "vlm_gate_sdpa"
_ROWS = "vlm_gate_attention_rows"


@dataclass(eq=False)
class Reading:
    """What one call of ``generate`` left behind. Step 0 is the prompt, step j the j-th new token.

    Args:
        hidden: per hidden-state index, one (rows, hidden) tensor for each step.
        attention: per decoder layer (1-based), one (rows, image_tokens) tensor for each step.
    """

    hidden: dict[int, list[Tensor]] = field(default_factory=dict)
    attention: dict[int, list[Tensor]] = field(default_factory=dict)


class Taps:
    """The places in one model where readings are taken.

    Args:
        model: its text decoder's attention function is replaced by :func:`attend`.
    """

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(ATTENTION, attend)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        decoder = model.get_decoder()
        self._layers: list[nn.Module] = list(decoder.layers)
        parts = {key: getattr(model.config, key) for key in model.config.sub_configs}
        text = next((key for key, part in parts.items() if part is decoder.config), "")
        model.set_attn_implementation({text: ATTENTION})
        # Some checkpoints mix in layers without attention; there is nothing to read in those.
        self._attends = all(hasattr(layer, "self_attn") for layer in self._layers)

    def check(self, readout: Readout) -> None:
        """Raise EngineError, naming the field, for layers that the model does not have."""
        last = len(self._layers)
        wrong = [k for k in readout.layers if not 0 <= k <= last]
        if wrong:
            raise EngineError(f"readout.layers: {wrong} are outside the model's 0 to {last}")
        wrong = [k for k in readout.attention_layers if not 1 <= k <= last]
        if wrong:
            raise EngineError(f"readout.attention_layers: {wrong} are outside 1 to {last}")

    @contextmanager
    def read(self, readouts: Sequence[Readout], image_positions: Tensor) -> Iterator[Reading]:
        """Read at the union of the readouts' layers while the body runs ``generate``.

        Args:
            readouts: of the batch's rows.
            image_positions: columns of the image tokens in the padded prompt, (rows, image_tokens).
        """
        reading = Reading()
        handles = []
        attending = []
        try:
            for index in sorted({k for readout in readouts for k in readout.layers}):
                states = reading.hidden[index] = []
                if index == 0:
                    hook = partial(_keep_input, states)
                    handles.append(
                        self._layers[0].register_forward_pre_hook(hook, with_kwargs=True)
                    )
                else:
                    hook = partial(_keep_output, states)
                    handles.append(self._layers[index - 1].register_forward_hook(hook))
            wanted = {k for readout in readouts for k in readout.attention_layers}
            for index in sorted(wanted) if self._attends else ():
                rows = reading.attention[index] = []
                module = self._layers[index - 1].self_attn
                attending.append(module)
                module.__dict__[_ROWS] = (image_positions, rows)
            yield reading
        finally:
            for handle in handles:
                handle.remove()
            for module in attending:
                del module.__dict__[_ROWS]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """SDPA, as transformers calls it; keeps the last query's attention to the image when asked."""
    wanted = module.__dict__.get(_ROWS)
    if wanted is not None:
        positions, rows = wanted
        weights = last_row(query, key, attention_mask, options.get("scaling"))
        rows.append(weights.gather(-1, positions))
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **options
    )
    return result


def last_row(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Softmax row of the last query over all keys, averaged over heads, float32, (rows, keys).

    Args:
        query: (rows, heads, queries, width).
        key: (rows, key_heads, keys, width); heads is a multiple of key_heads.
        mask: boolean (true: attend) or additive, (rows, 1, queries, keys); ``None`` hides nothing
            from the last query.
        scaling: of the scores; width ** -0.5 when ``None``.
    """
    rows, heads, _, width = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    grouped = query[:, :, -1].view(rows, key_heads, heads // key_heads, width)
    scores = (grouped @ key.transpose(2, 3)).float() * (scaling or width**-0.5)
    if mask is not None:
        seen = mask[:, :, -1:, :keys]
        if seen.dtype == torch.bool:
            scores = scores.masked_fill(~seen, -torch.inf)
        else:
            scores = scores + seen.float()
    return scores.softmax(-1).mean((1, 2))


def _keep_output(states: list[Tensor], module: nn.Module, args: Any, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    states.append(hidden[:, -1])


def _keep_input(states: list[Tensor], module: nn.Module, args: Any, kwargs: Any) -> None:
    hidden = args[0] if args else kwargs["hidden_states"]
    states.append(hidden[:, -1])
