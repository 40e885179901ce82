"""The benchmark's shapes are the published ones, and it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from benchmarks.full_size import questions, run
from benchmarks.full_size_shapes import SHAPES, Shape

# As the hub states them.
BILLIONS = {"llava-1.5-7b-hf": 7.06, "paligemma-3b-mix-224": 2.92, "Qwen2-VL-7B-Instruct": 8.29}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_as_many_parameters_as_published(shape: Shape) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(shape.config(False), dtype=torch.bfloat16)
    count = sum(each.numel() for each in model.parameters())
    assert count / 1e9 == pytest.approx(BILLIONS[shape.name], abs=0.006)


def test_a_toy_is_measured(tmp_path: Path) -> None:
    examples = questions(tmp_path, 1)
    found = run(SHAPES[0], examples, "cpu", toy=True)
    assert found["image_tokens"] == 576
    assert found["image_grid"] == (24, 24)
    assert found["answers"] == 1
    assert found["samples_per_answer"] == 10
    assert found["hidden_states"] == 12
    assert found["questions_per_second"] > 0
    # 4 layers x 3 positions x 64 float16, and everything else of an answer.
    assert found["store_bytes_per_question"] > 4 * 3 * 64 * 2
