"""Self-consistency: how often sampled answers agree with the greedy one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from probes.labels.sameness import NOTHING, answer_form
from probes.types import Missing, SelfConsistency


def measure_consistency(
    greedy: str, samples: Sequence[str], planned: int
) -> SelfConsistency | Missing:
    """Compare sampled answers with the greedy one, by the judge's forms.

    Args:
        greedy: the answer given.
        samples: answers drawn with a temperature.
        planned: how many were to be drawn, at least ``len(samples)``.

    Returns ``Missing("no_samples")`` without samples, and ``Missing("empty_answer")`` when the
    greedy answer holds no word or says that it gives none: such answers agree with each other and
    say nothing. Raises ValueError when there are more samples than planned.
    """
    return completed_consistency(greedy, samples, planned, agreeing=0, others=0)


def completed_consistency(
    greedy: str, samples: Sequence[str], planned: int, *, agreeing: int, others: int
) -> SelfConsistency | Missing:
    """Measure consistency as if further samples had come in, like :func:`measure_consistency`.

    Args:
        agreeing: further samples that say what the greedy answer does.
        others: further samples that say something else, each another thing.
    """
    count = len(samples) + agreeing + others
    if count > planned:
        raise ValueError(f"samples: {count} drawn but only {planned} planned")
    if count == 0:
        return Missing("no_samples")
    form = answer_form(greedy)
    answer = form(greedy)
    if answer == NOTHING:
        return Missing("empty_answer")
    counts = Counter(form(sample) for sample in samples)
    counts[answer] += agreeing
    shares = [number / count for number in counts.values() if number] + [1 / count] * others
    return SelfConsistency(
        agreement=counts[answer] / count,
        samples=count,
        stopped_early=count < planned,
        majority_share=max(shares),
        entropy=max(0.0, -sum(share * math.log(share) for share in shares)),
    )
