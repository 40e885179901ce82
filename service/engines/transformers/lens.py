"""The logit lens: what the final norm and head make of a hidden state before the last layer.

nostalgebraist 2020, "interpreting GPT: the logit lens". One product with the head per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.types import LensMargins, Missing, Readout
from service.engines.transformers.taps import Reading

_YES = ("yes", "Yes", " yes", " Yes")
_NO = ("no", "No", " no", " No")


class Lens:
    """The logit lens of a loaded model.

    Args:
        model: with a final norm in its decoder and an output head.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._norm = model.get_decoder().norm
        self._head = model.get_output_embeddings()
        self._yes, self._no = _single_tokens(tokenizer, _YES), _single_tokens(tokenizer, _NO)

    def margins(self, reading: Reading, readouts: Sequence[Readout]) -> list[LensMargins | Missing]:
        """Each row's margins at the last prompt token."""
        asked = [each.lens and bool(each.layers) for each in readouts]
        if not any(asked):
            return [Missing("not_requested")] * len(readouts)
        layers = sorted(reading.hidden)
        pairs = [self._margins(reading.hidden[layer][0]) for layer in layers]
        table = torch.stack(pairs, 1).cpu().numpy()  # (2, layers, rows)
        found: list[LensMargins | Missing] = []
        for row, readout in enumerate(readouts):
            if not asked[row]:
                found.append(Missing("not_requested"))
                continue
            at = np.array([layers.index(layer) for layer in readout.layers])
            known = bool(self._yes and self._no)
            found.append(
                LensMargins(
                    layers=readout.layers,
                    top=table[0, at, row],
                    yes_no=table[1, at, row] if known else Missing("no_yes_no_token"),
                )
            )
        return found

    def _margins(self, states: Tensor) -> Tensor:
        """Top and yes-no margin of each row's state, (2, rows)."""
        logits = self._head(self._norm(states)).float()
        best = logits.topk(2).values
        top = best[:, 0] - best[:, 1]
        if not (self._yes and self._no):
            return torch.stack([top, torch.zeros_like(top)])
        return torch.stack([top, logits[:, self._yes].amax(1) - logits[:, self._no].amax(1)])


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Tokens that are one of the words by themselves."""
    found = (tokenizer.encode(word, add_special_tokens=False) for word in words)
    return sorted({ids[0] for ids in found if len(ids) == 1 and ids[0] != tokenizer.unk_token_id})
