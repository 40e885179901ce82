"""One matrix for all readouts in use, changed between requests only."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from probes.types import NOTHING, Readout
from service.engines.base import EngineError
from service.engines.vllm.options import VllmOptions, engine_arguments
from service.engines.vllm.plan import KEPT, Plan, Plans, check_readout

NUMBERS = np.random.default_rng(0)


def readout(*layers: int, columns: int = 2) -> Readout:
    matrices = {layer: NUMBERS.normal(size=(5, columns)) for layer in layers}
    return Readout(layers, ("prompt_last",), matrices)


def test_each_readout_has_columns_of_its_own() -> None:
    one, two = readout(3), readout(3, 4, columns=1)
    plan = Plan((one, two), (3, 4), 5)
    message = plan.message()
    assert message["columns"] == 3
    assert not message["attention"]
    matrix = np.frombuffer(message["matrix"], np.float32).reshape(2, 5, 3)
    state = NUMBERS.normal(size=5).astype(np.float32)
    assert one.projections is not None
    assert two.projections is not None
    np.testing.assert_allclose((state @ matrix[0])[:2], state @ one.projections[3], rtol=1e-5)
    np.testing.assert_allclose((state @ matrix[1])[2:], state @ two.projections[4], rtol=1e-5)
    assert (matrix[1][:, :2] == 0).all()
    assert (plan.start(one), plan.start(two)) == (0, 2)


def test_whole_states_need_no_matrix() -> None:
    plan = Plan((readout(3), Readout((4,), ("prompt_last",), None, (1,))), (3, 4), 5)
    assert plan.whole
    assert plan.message() == {"matrix": None, "columns": 5, "attention": True}


def test_a_new_readout_waits_for_the_running_ones_and_is_installed_once() -> None:
    installed: list[Plan] = []
    one, two = readout(3), readout(4)

    async def install(plan: Plan) -> None:
        installed.append(plan)

    async def scenario() -> None:
        plans = Plans(Plan((), (3, 4), 5), install)
        inside, leave = asyncio.Event(), asyncio.Event()

        async def long() -> None:
            async with plans.using(one):
                inside.set()
                await leave.wait()
                assert len(installed) == 1

        async def other() -> None:
            async with plans.using(two) as plan:
                assert plan.holds(one)
                assert plan.holds(two)

        running = asyncio.create_task(long())
        await inside.wait()
        waiting = [asyncio.create_task(other()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(installed) == 1
        leave.set()
        await asyncio.gather(running, *waiting)
        assert len(installed) == 2
        async with plans.using(NOTHING), plans.using(one):
            assert len(installed) == 2

    asyncio.run(scenario())


def test_a_request_given_up_while_it_waits_blocks_nobody() -> None:
    async def install(plan: Plan) -> None:
        return None

    async def scenario() -> None:
        plans = Plans(Plan((), (3,), 5), install)
        leave = asyncio.Event()

        async def long() -> None:
            async with plans.using(NOTHING):
                await leave.wait()

        async def short() -> None:
            async with plans.using(readout(3)):
                return

        running = asyncio.create_task(long())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(short())
        await asyncio.sleep(0)
        waiting.cancel()
        leave.set()
        await asyncio.gather(running, waiting, return_exceptions=True)
        await short()

    asyncio.run(scenario())


def test_old_readouts_leave_the_plan() -> None:
    kept: list[Plan] = []

    async def install(plan: Plan) -> None:
        kept.append(plan)

    async def scenario() -> None:
        plans = Plans(Plan((), (3,), 5), install)
        for _ in range(KEPT + 3):
            async with plans.using(readout(3)):
                pass

    asyncio.run(scenario())
    assert [len(plan.readouts) for plan in kept] == [1, 2, 3, 4, 4, 4, 4]


def test_layers_that_are_not_there_or_not_armed_are_named() -> None:
    check_readout(readout(3), 6, (3, 4), ())
    with pytest.raises(EngineError, match=r"readout\.layers: \[7\] are outside"):
        check_readout(readout(7), 6, (3, 4), ())
    with pytest.raises(EngineError, match=r"readout\.layers: \[5\] were not armed"):
        check_readout(readout(5), 6, (3, 4), ())
    with pytest.raises(EngineError, match=r"attention_layers: \[2\] were not armed"):
        check_readout(Readout(attention_layers=(2,)), 6, (3, 4), (1,))


def test_arguments_pass_through_but_for_the_gates_own() -> None:
    options = VllmOptions(quantization="fp8", arguments={"max_num_batched_tokens": 64})
    arguments = engine_arguments("m", "bfloat16", options, (2,), (1,), {"backend": "pil"})
    assert arguments["max_num_batched_tokens"] == 64
    assert arguments["quantization"] == "fp8"
    assert arguments["additional_config"] == {
        "vlm_gate": {"layers": [2], "attention_layers": [1], "whole_prompts": False}
    }
    for name, value in (
        ("pipeline_parallel_size", 2),
        ("speculative_config", {"method": "ngram"}),
        ("worker_extension_cls", "other.Class"),
    ):
        with pytest.raises(EngineError, match=f"vllm_arguments.{name}"):
            engine_arguments("m", "auto", VllmOptions(arguments={name: value}), (), (), {})


def test_a_prompt_that_attends_both_ways_never_comes_in_parts() -> None:
    arguments = engine_arguments("m", "auto", VllmOptions(), (), (), {}, whole_prompts=True)
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["additional_config"]["vlm_gate"]["whole_prompts"]
    for name, value in (("enable_chunked_prefill", True), ("long_prefill_token_threshold", 64)):
        options = VllmOptions(arguments={name: value})
        with pytest.raises(EngineError, match=f"vllm_arguments.{name}: .* attend both ways"):
            engine_arguments("m", "auto", options, (), (), {}, whole_prompts=True)
        assert engine_arguments("m", "auto", options, (), (), {})[name] == value
