from __future__ import annotations

import numpy as np
import pytest
import torch

from service.engines.decoding import (
    ForcedTokens,
    NucleusSampler,
    RowLimits,
    TokenScores,
    cut,
    uniforms,
)

NONE = torch.zeros((1, 0))


def sampler(numbers: list[float], temperature: float, top_p: float) -> NucleusSampler:
    rows = torch.tensor(numbers)[:, None]
    return NucleusSampler(rows, torch.tensor([[temperature]]), torch.tensor([[top_p]]))


def test_numbers_of_a_sample_do_not_change_with_count_or_length() -> None:
    few, many = uniforms(3, 2, 4), uniforms(3, 5, 9)
    np.testing.assert_array_equal(few, many[:2, :4])
    assert not np.array_equal(few, uniforms(4, 2, 4))
    assert len(np.unique(many)) == many.size


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    grid = torch.linspace(0, 0.9999, 200).tolist()
    repeated = scores.expand(200, -1)
    assert set(sampler(grid, 1.0, 0.7).draw(repeated).tolist()) == {0, 1}
    assert set(sampler(grid, 1.0, 0.3).draw(repeated).tolist()) == {0}
    assert set(sampler(grid, 1.0, 1.0).draw(repeated).tolist()) == {0, 1, 2, 3}


def test_draws_follow_the_tempered_probabilities() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    grid = ((torch.arange(10_000) + 0.5) / 10_000).tolist()
    for temperature in (0.7, 1.0, 2.0):
        drawn = sampler(grid, temperature, 1.0).draw(logits.expand(10_000, -1))
        share = torch.bincount(drawn, minlength=3) / 10_000
        torch.testing.assert_close(share, (logits[0] / temperature).softmax(-1), atol=2e-4, rtol=0)


def test_the_largest_number_still_draws_a_kept_token() -> None:
    scores = torch.tensor([[0.4, 0.4, 0.2]]).log()
    assert sampler([1.0], 1.0, 0.8).draw(scores).item() in (0, 1)


def test_sampler_leaves_one_choice_to_the_greedy_decoder() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.5]])
    forced = sampler([0.999], 1.0, 1.0)(NONE, scores)
    assert torch.isfinite(forced).sum() == 1
    assert forced.argmax().item() == 0


def test_token_scores_of_known_distributions() -> None:
    scores = TokenScores()
    first = torch.tensor([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]]).log()
    assert scores(NONE, first) is first
    scores(NONE, torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.0, 0.9]]).log())
    torch.testing.assert_close(
        torch.stack(scores.logprobs, 1).exp(), torch.tensor([[0.7, 0.5], [1 / 3, 0.9]])
    )
    assert scores.entropy[1].item() == pytest.approx(np.log(3))
    assert scores.margin[0].item() == pytest.approx(np.log(3.5))


def test_an_impossible_token_gives_no_nan() -> None:
    scores = TokenScores()
    scores(NONE, torch.tensor([[0.0, 1.0, -torch.inf]]))
    assert torch.isfinite(scores.entropy).all()


def test_rows_stop_at_their_own_limit() -> None:
    limits = RowLimits(4, torch.tensor([1, 2, 3]))
    assert limits(torch.zeros((3, 6)), NONE).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("tokens", "limit", "answer", "ended"),
    [
        ([5, 6, 2, 0], 4, (5, 6), True),
        ([5, 6, 7], 3, (5, 6, 7), False),
        ([5, 6, 2], 2, (5, 6), False),
        ([2, 2], 2, (), True),
        ([], 3, (), False),
    ],
)
def test_cut(tokens: list[int], limit: int, answer: tuple[int, ...], ended: bool) -> None:
    assert cut(tokens, limit, frozenset({2})) == (answer, ended)


def test_forced_tokens_by_hand() -> None:
    """Rows of one and of no token; 2 and 3 end an answer."""
    forced = ForcedTokens([(0,), ()], frozenset((2, 3)), torch.device("cpu"))
    first = forced(torch.empty(2, 1), torch.log(torch.tensor([[0.2, 0.5, 0.1, 0.2]] * 2)))
    assert first.argmax(-1).tolist() == [0, 2], "the second row is given an end"
    last = forced(torch.empty(2, 2), torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2)))
    assert last.argmax(-1).tolist() == [2, 2]
    np.testing.assert_allclose(forced.logprobs[0], np.log([0.2, 0.1]), rtol=1e-6)
    assert forced.chosen[0].tolist() == [False, False]
    assert forced.chosen[1].tolist() == [True, True], "the other end token would be as good"
