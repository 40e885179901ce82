"""Token confidence: what the model's own probabilities say about its answer."""

from __future__ import annotations

import numpy as np

from probes.types import Missing, TokenConfidence, Trace


def measure_confidence(trace: Trace) -> TokenConfidence | Missing:
    """Measure the answer's mean log-probability, and its first token's entropy and margin.

    Returns ``Missing("empty_answer")`` when the model ended at once, ``Missing("not_finite")`` when
    a probability is not a number (an overflow in low precision).
    """
    if trace.logprobs.size == 0:
        return Missing("empty_answer")
    values = (float(trace.logprobs.mean()), trace.first_token_entropy, trace.first_token_margin)
    if not np.isfinite(values).all():
        return Missing("not_finite")
    return TokenConfidence(*values)
