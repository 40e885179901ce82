"""Self-consistency: how often sampled answers agree with the greedy one."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from probes.types import Missing, SelfConsistency

_APOSTROPHES = re.compile(r"(?<=\w)['’](?=\w)")
# Punctuation goes, but not where it is part of a number: 3.5, 1,000, -2.
_PUNCTUATION = re.compile(r"(?<=\d)[.,:/](?=\d)|(?<![^\s])-(?=\d)|([^\w\s]|_)")


def normalise(text: str) -> str:
    """Lower case, no punctuation, single blanks: the form in which answers are compared.

    >>> normalise(" Yes, there IS. ")
    'yes there is'
    >>> normalise("It's 3.5 mm")
    'its 3.5 mm'
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _APOSTROPHES.sub("", text)
    text = _PUNCTUATION.sub(lambda match: " " if match.group(1) else match.group(0), text)
    return " ".join(text.split())


def measure_consistency(
    greedy: str, samples: Sequence[str], planned: int
) -> SelfConsistency | Missing:
    """Compare sampled answers with the greedy one, all normalised.

    Args:
        greedy: the answer given.
        samples: answers drawn with a temperature.
        planned: how many were to be drawn, at least ``len(samples)``.

    Returns ``Missing("no_samples")`` without samples, and ``Missing("empty_answer")`` when the
    greedy answer holds no word: empty answers agree with each other and say nothing.
    Raises ValueError when there are more samples than planned.
    """
    if len(samples) > planned:
        raise ValueError(f"samples: {len(samples)} drawn but only {planned} planned")
    if not samples:
        return Missing("no_samples")
    answer = normalise(greedy)
    if not answer:
        return Missing("empty_answer")
    counts = Counter(normalise(sample) for sample in samples)
    shares = [count / len(samples) for count in counts.values()]
    return SelfConsistency(
        agreement=counts[answer] / len(samples),
        samples=len(samples),
        stopped_early=len(samples) < planned,
        majority_share=max(shares),
        entropy=max(0.0, -sum(share * math.log(share) for share in shares)),
    )
