"""Probability of the likeliest token, entropy and margin, from a step's logits."""

from __future__ import annotations

import torch
from torch import Tensor


def token_scores(logits: Tensor, whole: bool) -> Tensor:
    """Per row: log-probability of the likeliest token, entropy (nats), margin (logits), (rows, 3).

    Args:
        logits: (rows, vocabulary).
        whole: entropy and margin too, which only an answer's first token needs; else NaN.
    """
    values = logits.float()
    total = values.logsumexp(-1)
    if not whole:
        chosen = values.amax(-1) - total
        unread = torch.full_like(chosen, torch.nan)
        return torch.stack([chosen, unread, unread], -1)
    best = values.topk(2).values
    probabilities = (values - total[:, None]).exp()
    # 0 * -inf for tokens that the model rules out: they add nothing.
    entropy = total - torch.nan_to_num(probabilities * values, nan=0.0).sum(-1)
    return torch.stack([best[:, 0] - total, entropy, best[:, 0] - best[:, 1]], -1)
