"""Reads hidden states and attention rows inside a transformers model while it generates.

Hidden states come from forward hooks on the decoder layers, the last position of each step only.
Attention comes from an attention function that calls SDPA and, beside it, computes the softmax row
of the last query only (and of the question's words where they are asked for): the full matrix never
exists. A layer that is not asked for costs nothing. Neurons can be ablated at the same places.
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
        attention: per decoder layer (1-based), one (rows, image_tokens) tensor for each step, or
            (rows, heads, image_tokens) where heads are asked for.
        question: per decoder layer, of the prompt: content words, boundary tokens,
            (rows, 2, image_tokens).
    """

    hidden: dict[int, list[Tensor]] = field(default_factory=dict)
    attention: dict[int, list[Tensor]] = field(default_factory=dict)
    question: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class WordRows:
    """Query positions of a batch whose attention to the image is wanted.

    Args:
        columns: of the padded prompt, (rows, words); what a row has no use for is weighed 0.
        shares: weight of each in the mean of the content words and of the boundary tokens,
            (rows, 2, words).
    """

    columns: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What :func:`attend` leaves of one layer."""

    reading: Reading
    layer: int
    image_positions: Tensor
    heads: bool
    words: WordRows | None


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
    def read(
        self,
        readouts: Sequence[Readout],
        image_positions: Tensor,
        words: WordRows | None = None,
    ) -> Iterator[Reading]:
        """Read at the union of the readouts' layers while the body runs ``generate``.

        Args:
            readouts: of the batch's rows.
            image_positions: columns of the image tokens in the padded prompt, (rows, image_tokens).
            words: of the questions, where they are asked for.
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
            heads = any(readout.heads for readout in readouts)
            for index in sorted(wanted) if self._attends else ():
                reading.attention[index] = []
                module = self._layers[index - 1].self_attn
                attending.append(module)
                module.__dict__[_ROWS] = _Wanted(reading, index, image_positions, heads, words)
            yield reading
        finally:
            for handle in handles:
                handle.remove()
            for module in attending:
                del module.__dict__[_ROWS]

    @contextmanager
    def ablate(self, layer: int, neurons: Sequence[int], values: Sequence[float]) -> Iterator[None]:
        """Hold neurons of a decoder layer's output at fixed values, at every token.

        Args:
            layer: hidden-state index, 1 to the number of layers.
            neurons: entries of the hidden state.
            values: what each is held at; 0 or its mean.

        Raises EngineError, naming the field, for what the model does not have.
        """
        if not 1 <= layer <= len(self._layers):
            raise EngineError(f"layer: {layer} is outside the model's 1 to {len(self._layers)}")
        module = self._layers[layer - 1]
        some = next(module.parameters())
        at = torch.tensor(neurons, device=some.device, dtype=torch.long)
        held = torch.tensor(values, device=some.device, dtype=some.dtype)
        # Before the hooks that read: what is read is what goes on.
        handle = module.register_forward_hook(partial(_hold, at, held), prepend=True)
        try:
            yield
        finally:
            handle.remove()


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
        _keep_rows(wanted, query, key, attention_mask, options.get("scaling"))
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **options
    )
    return result


def _keep_rows(
    wanted: _Wanted, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None
) -> None:
    rows, at = wanted.reading.attention[wanted.layer], wanted.image_positions
    if wanted.heads:
        weights = head_rows(query, key, mask, scaling)
        rows.append(weights.gather(-1, at[:, None].expand(-1, weights.shape[1], -1)))
    else:
        rows.append(last_row(query, key, mask, scaling).gather(-1, at))
    if wanted.words is not None and wanted.layer not in wanted.reading.question:
        maps = word_rows(query, key, mask, scaling, wanted.words)
        wanted.reading.question[wanted.layer] = maps.gather(-1, at[:, None].expand(-1, 2, -1))


def last_row(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Softmax row of the last query over all keys, averaged over heads, float32, (rows, keys).

    Args:
        query: (rows, heads, queries, width).
        key: (rows, key_heads, keys, width); heads is a multiple of key_heads.
        mask: boolean (true: attend) or additive, (rows, 1, queries, keys); ``None`` hides nothing
            from the last query.
        scaling: of the scores; width ** -0.5 when ``None``.
    """
    return head_rows(query, key, mask, scaling).mean(1)


def head_rows(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """As :func:`last_row`, head by head, (rows, heads, keys)."""
    seen = None if mask is None else mask[:, :, -1:, : key.shape[2]]
    return _softmax_rows(query[:, :, -1:], key, seen, scaling).squeeze(2)


def word_rows(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None, words: WordRows
) -> Tensor:
    """Rows of the prompt's words, averaged over heads and words, (rows, 2, keys).

    Arguments as for :func:`last_row`; without a mask each query sees the keys up to its own.
    """
    _, heads, _, width = query.shape
    keys = key.shape[2]
    at = words.columns[:, None, :, None]
    if mask is None:
        seen = torch.arange(keys, device=key.device) <= at
    else:
        every = mask[..., :keys].expand(len(query), *mask.shape[1:3], keys)
        seen = every.gather(2, at.expand(-1, mask.shape[1], -1, keys))
    chosen = query.gather(2, at.expand(-1, heads, -1, width))
    return words.shares @ _softmax_rows(chosen, key, seen, scaling).mean(1)


def _softmax_rows(query: Tensor, key: Tensor, seen: Tensor | None, scaling: float | None) -> Tensor:
    """Softmax over all keys of every query given, float32, (rows, heads, queries, keys)."""
    rows, heads, queries, width = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    grouped = query.reshape(rows, key_heads, heads // key_heads * queries, width)
    scores = (grouped @ key.transpose(2, 3)).float() * (scaling or width**-0.5)
    scores = scores.view(rows, heads, queries, keys)
    if seen is not None:
        hidden = seen.dtype == torch.bool
        scores = scores.masked_fill(~seen, -torch.inf) if hidden else scores + seen.float()
    return scores.softmax(-1)


def _keep_output(states: list[Tensor], module: nn.Module, args: Any, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    states.append(hidden[:, -1])


def _keep_input(states: list[Tensor], module: nn.Module, args: Any, kwargs: Any) -> None:
    hidden = args[0] if args else kwargs["hidden_states"]
    states.append(hidden[:, -1])


def _hold(at: Tensor, values: Tensor, module: nn.Module, args: Any, output: Any) -> Any:
    hidden = output[0] if isinstance(output, tuple) else output
    hidden = hidden.index_copy(-1, at, values.expand(*hidden.shape[:-1], -1))
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
