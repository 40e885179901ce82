"""What ``model.generate`` calls at each step: it reads scores, draws samples and stops rows.

They follow the call signatures of transformers' LogitsProcessor and StoppingCriteria.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from probes.types import FloatArray


class TokenScores:
    """Reads each step's distribution and leaves it as it is. For greedy decoding.

    After generation: ``logprobs`` holds per step the natural-log probability of the chosen
    (largest) token, shape (rows,); ``entropy`` (nats) and ``margin`` (logits) belong to the
    first step.
    """

    def __init__(self) -> None:
        self.logprobs: list[Tensor] = []
        self.entropy = torch.empty(0)
        self.margin = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self.logprobs:
            self.entropy = torch.special.entr(scores.softmax(-1)).sum(-1)
            best = scores.topk(2).values
            self.margin = best[:, 0] - best[:, 1]
        self.logprobs.append(scores.amax(-1) - scores.logsumexp(-1))
        return scores


class ForcedTokens:
    """Decodes given tokens whatever the model would choose, and keeps what it thinks of them.

    A row whose tokens are used up is given the end token, which it is judged for like any other.
    After generation: ``logprobs`` holds per step the natural-log probability of the row's token,
    ``chosen`` whether it is the model's first choice, each of shape (rows,).

    Args:
        tokens: per row; rows may differ in length.
        ends: the model's end tokens, any of which is right behind the last token.
        device: of the scores.
    """

    def __init__(
        self, tokens: Sequence[Sequence[int]], ends: frozenset[int], device: torch.device
    ) -> None:
        longest = max(len(row) for row in tokens)
        table = np.full((longest + 1, len(tokens)), -1, dtype=np.int64)
        for at, row in enumerate(tokens):
            table[: len(row), at] = row
        self._tokens = torch.from_numpy(table).to(device)
        self._ends = torch.tensor(sorted(ends), device=device)
        self._end = min(ends)
        self.logprobs: list[Tensor] = []
        self.chosen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self._tokens[len(self.logprobs)]
        over = wanted < 0
        token = wanted.masked_fill(over, self._end)[:, None]
        best = scores.argmax(-1)
        self.logprobs.append((scores.gather(-1, token)[:, 0] - scores.logsumexp(-1)).float())
        self.chosen.append(torch.where(over, torch.isin(best, self._ends), best == token[:, 0]))
        return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)


def uniforms(seed: int, count: int, steps: int) -> FloatArray:
    """Random numbers of a request's samples in [0, 1), shape (count, steps).

    Row i depends on the seed and i only: more samples or a longer limit keep the first ones.
    """
    return np.stack([np.random.default_rng([seed, row]).random(steps) for row in range(count)])


class NucleusSampler:
    """Draws tokens by inverse CDF from given random numbers: temperature, then top-p.

    The draw of a row depends on its own logits and numbers alone, so a sample does not depend on
    what else is in the batch. Top-p keeps the smallest set of most likely tokens whose mass reaches
    ``top_p`` (Holtzman et al. 2020, section 3.1).

    Args:
        numbers: in [0, 1), shape (rows, steps).
        temperature: > 0, shape (rows, 1).
        top_p: in (0, 1], shape (rows, 1).
    """

    def __init__(self, numbers: Tensor, temperature: Tensor, top_p: Tensor) -> None:
        self._numbers = numbers
        self._temperature = temperature
        self._top_p = top_p
        self._step = 0

    def draw(self, scores: Tensor) -> Tensor:
        """Next token of each row from logits (rows, vocabulary), shape (rows,)."""
        scaled = scores.float() / self._temperature
        probabilities, tokens = scaled.softmax(-1).sort(descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities
        kept = probabilities.masked_fill(before >= self._top_p, 0.0)
        kept[:, 0] = probabilities[:, 0]
        reached = kept.cumsum(-1)
        # Beyond the generated limit only rows that have ended are drawn for: any number will do.
        step = min(self._step, self._numbers.shape[1] - 1)
        self._step += 1
        target = self._numbers[:, step : step + 1] * reached[:, -1:]
        place = torch.searchsorted(reached, target, right=True)
        last_kept = (kept > 0).sum(-1, keepdim=True) - 1
        return tokens.gather(-1, torch.minimum(place, last_kept)).squeeze(-1)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = self.draw(scores)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn[:, None], 0.0)


class RowLimits:
    """Stops each row at its own number of new tokens.

    Args:
        prompt: tokens before the first new one.
        limits: new tokens per row, shape (rows,).
    """

    def __init__(self, prompt: int, limits: Tensor) -> None:
        self._prompt = prompt
        self._limits = limits

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return input_ids.shape[1] - self._prompt >= self._limits


def cut(tokens: Sequence[int], limit: int, ends: frozenset[int]) -> tuple[tuple[int, ...], bool]:
    """A row's answer: its tokens before the end token, at most ``limit``; and whether it ended."""
    for place, token in enumerate(tokens[:limit]):
        if token in ends:
            return tuple(tokens[:place]), True
    return tuple(tokens[:limit]), False
