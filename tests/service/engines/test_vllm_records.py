"""Rows of steps become the record of the right request, whatever happens in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from probes.types import POSITIONS, AttentionMaps, Missing, Readout
from service.engines.base import EngineError
from service.engines.vllm.plan import Plan
from service.engines.vllm.traces import trace_of
from service.engines.vllm_plugin.record import KEY, Record, StepRows
from service.engines.vllm_plugin.scheduler import Records


@dataclass
class Output:
    """The part of vLLM's EngineCoreOutput that is used."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: str | None = None
    kv_transfer_params: dict[str, Any] | None = field(default=None)


def rows(step: int, *names: str, silent: str = "") -> StepRows:
    """Two layers, three columns; every value says its step and its request.

    Args:
        silent: the request that asked for nothing.
    """
    value = np.array([100 * step + int(name) for name in names], np.float32)
    # Logits 0 and -margin, as parts of a vocabulary of two.
    margin = 1 + value / 1000
    weight = np.exp(-margin)
    logits = np.stack([0 * value, -margin, 1 + weight, -margin * weight], -1)[:, None]
    return StepRows(
        {name: row for row, name in enumerate(names) if name != silent},
        np.broadcast_to(value[:, None, None], (len(names), 2, 3)).copy(),
        (-value - 1).tolist(),
        logits,
        np.broadcast_to(value[:, None, None] / 1000, (len(names), 1, 4)).copy(),
        [4 if int(name) % 2 else 3 for name in names],
    )


def finish(records: Records, step: int, name: str) -> Record:
    output = Output(name, [9], "stop")
    records.keep(rows(step, name), [output])
    assert output.kv_transfer_params is not None
    return Record.unpack(output.kv_transfer_params[KEY])


def test_a_record_is_the_prompts_row_and_the_sum_of_the_answers() -> None:
    records = Records()
    records.keep(rows(0, "1", "2"), [Output("1", []), Output("2", [5])])
    records.keep(rows(1, "2", "1"), [Output("2", [6]), Output("1", [4])])
    records.keep(rows(2, "1"), [Output("1", [7])])
    one = finish(records, 3, "1")
    # The first step only held a part of the prompt: it gave no token.
    assert (one.hidden == 101).all()
    assert (one.hidden_sum == 201 + 301).all()
    assert (one.hidden_last == 301).all()
    assert one.states == 2
    assert one.logprobs == [-102, -202, -302]
    probability = 1 / (1 + np.exp(-1.101))
    assert one.margin == pytest.approx(1.101, rel=1e-6)
    entropy = -probability * np.log(probability) - (1 - probability) * np.log(1 - probability)
    assert one.entropy == pytest.approx(entropy, rel=1e-5)
    assert one.attention.shape == (1, 4)
    np.testing.assert_allclose(one.attention_sum, (201 + 301) / 1000, rtol=1e-6)
    assert len(records) == 1
    two = finish(records, 4, "2")
    assert (two.hidden_sum == 102 + 402).all()
    assert two.attention.shape == (1, 3)
    assert len(records) == 0


def test_a_record_outlives_its_steps_memory() -> None:
    records = Records()
    first, second = rows(0, "1"), rows(1, "1")
    records.keep(first, [Output("1", [5])])
    records.keep(second, [Output("1", [5])])
    for step in (first, second):  # vLLM's next steps are copied to the same place
        step.hidden[...] = -1
        step.attention[...] = -1
    found = finish(records, 2, "1")
    assert (found.hidden == 1).all()
    assert (found.hidden_sum == 101 + 201).all()
    np.testing.assert_allclose(found.attention_sum, (101 + 201) / 1000, rtol=1e-6)


def test_requests_that_ask_for_nothing_have_none() -> None:
    records = Records()
    output = Output("1", [5], "stop")
    records.keep(rows(0, "2", "1", silent="1"), [output])
    assert output.kv_transfer_params is None
    assert len(records) == 0


def test_aborted_requests_are_forgotten() -> None:
    records = Records()
    records.keep(rows(0, "1", "3"), [Output("1", [5]), Output("3", [5])])
    records.forget({"1", "7"})
    assert len(records) == 1


PLAN = Plan((Readout((2, 6), POSITIONS, None, (3,)),), (2, 6), 3)


def record(tokens: int) -> Record:
    records = Records()
    for step in range(tokens - 1):
        records.keep(rows(step, "1"), [Output("1", [5])])
    return finish(records, tokens - 1, "1")


def trace(found: Record, tokens: int, ended: bool, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "grid": (2, 2), "attention_layers": (3,), "attention_missing": None, **changes,
    }  # fmt: skip
    return trace_of(found, PLAN.readouts[0], PLAN, tokens=tokens, ended=ended, **settings)


def test_the_end_token_gives_the_last_answer_token_its_state() -> None:
    ended = trace(record(3), 2, True)
    assert ended.logprobs.tolist() == [-2, -102]
    assert (ended.readouts[6, "prompt_last"] == 1).all()
    assert (ended.readouts[2, "answer_mean"] == (101 + 201) / 2).all()
    assert (ended.readouts[2, "answer_last"] == 201).all()
    assert isinstance(ended.attention, AttentionMaps)
    cut = trace(record(3), 3, False)
    assert cut.logprobs.tolist() == [-2, -102, -202]
    assert (cut.readouts[2, "answer_last"] == 201).all()


def test_an_empty_answer_has_no_state_of_its_own() -> None:
    empty = trace(record(1), 0, True)
    assert empty.readouts[2, "answer_mean"] == Missing("empty_answer")
    assert empty.attention.answer_mean == Missing("empty_answer")
    assert not isinstance(empty.readouts[2, "prompt_last"], Missing)


def test_a_record_of_another_answer_is_refused() -> None:
    with pytest.raises(EngineError, match="2 tokens where 3 were sampled"):
        trace(record(2), 3, False)


def test_what_is_missing_is_said() -> None:
    assert trace(record(2), 2, False, grid=None).attention == Missing("no_image_grid")
    assert trace(record(2), 2, False, grid=(3, 3)).attention == Missing("no_image_grid")
    off = trace(record(2), 2, False, attention_missing="attention_mismatch")
    assert off.attention == Missing("attention_mismatch")
    unread = record(2)
    unread.entropy = float("nan")
    with pytest.raises(EngineError, match="no scores"):
        trace(unread, 2, False)
