"""Copies to the host never share memory, whoever waits for them and when."""

from __future__ import annotations

import pytest
import torch

from service.engines.vllm_plugin.copies import Copies

CPU = torch.device("cpu")


def test_a_buffer_is_used_again_once_its_copy_was_waited_for() -> None:
    copies = Copies(CPU)
    first, second = copies.start(torch.tensor([1.0, 2.0])), copies.start(torch.tensor([3.0]))
    assert len(copies) == 0  # two are on their way
    one = first.wait()
    assert len(copies) == 1
    third = copies.start(torch.tensor([4.0, 5.0]))
    assert len(copies) == 0
    assert second.wait().tolist() == [3.0]
    assert third.wait().tolist() == [4.0, 5.0]
    assert one.tolist() == [1.0, 2.0]  # a copy of its own
    assert len(copies) == 2


def test_a_larger_step_gets_a_larger_buffer() -> None:
    copies = Copies(CPU)
    copies.start(torch.zeros(3)).wait()
    assert copies.start(torch.arange(100.0)).wait().tolist() == list(range(100))
    assert copies.start(torch.empty(0)).wait().shape == (0,)
    assert len(copies) == 1


def test_a_copy_that_nobody_waits_for_takes_its_buffer_along() -> None:
    copies = Copies(CPU)
    lost = copies.start(torch.zeros(2))
    kept = copies.start(torch.ones(2))
    del lost
    assert kept.wait().tolist() == [1.0, 1.0]
    assert len(copies) == 1


def test_a_copy_is_waited_for_once() -> None:
    copy = Copies(CPU).start(torch.zeros(2))
    copy.wait()
    with pytest.raises(AssertionError, match="twice"):
        copy.wait()
