"""Probability of the likeliest token, entropy and margin, from a step's logits.

On the device a step's logits are only summed up, in one pass over parts of the vocabulary; the few
numbers that are left are put together on the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from probes.types import FloatArray


def summed(logits: Tensor) -> Tensor:
    """What the functions below need of logits, (rows, parts, 4), float32.

    Of each part of the vocabulary its largest logit and its second largest, and with the largest
    taken off every logit x, the sums of exp(x) and of x exp(x).

    Args:
        logits: (rows, vocabulary).
    """
    if logits.device.type == "cuda":
        from service.engines.vllm_plugin.score_kernel import summed_parts

        return summed_parts(logits)
    values = logits.float()
    best, place = values.max(-1, keepdim=True)
    second = values.scatter(1, place, -torch.inf).amax(-1)
    # Tokens that the model rules out lie at -inf: 0 times that is to add nothing.
    values = (values - best).clamp_(min=-1e30)
    weights = values.exp()
    moment = torch.linalg.vecdot(weights, values)
    return torch.stack([best[:, 0], second, weights.sum(-1), moment], -1)[:, None]


def logprobs(parts: FloatArray) -> FloatArray:
    """Log-probability of each row's likeliest token, (rows,).

    Args:
        parts: of :func:`summed`.
    """
    best, sums = parts[:, :, 0], parts[:, :, 2]
    found: FloatArray = -np.log((np.exp(best - best.max(1, keepdims=True)) * sums).sum(1))
    return found


def entropy_and_margin(parts: FloatArray) -> tuple[float, float]:
    """Entropy (nats) of a row's distribution, and its largest minus its second largest logit.

    Args:
        parts: of :func:`summed`, of one row: (parts, 4).
    """
    best, second, sums, moments = parts.astype(np.float64).T
    place = best.argmax()
    # Not the parts of ruled out tokens alone, whose logits lie at -inf.
    shift = np.maximum(best - best[place], -1e6)
    weight = np.exp(shift)
    total = (weight * sums).sum()
    mean = (weight * (moments + shift * sums)).sum() / total
    others = best.copy()
    others[place] = second[place]
    return float(np.log(total) - mean), float(best[place] - others.max())
