"""What the plugin costs on the host per decode step, on vLLM's CPU build: microseconds.

In one process, so that the worker's and the scheduler's part can be timed, less what they wrap.
The model's tensors are tiny: what is left is Python and the launch of operations, which a GPU's
host pays too. Attention is left out, since a CPU computes it in another way than a GPU.

    python -m benchmarks.plugin_step --out benchmarks/results/plugin_step_cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.host import ROOT, describe
from probes.types import POSITIONS, Query, Readout
from service.engines.vllm.options import VllmOptions, engine_arguments
from service.engines.vllm.plan import Plan
from service.engines.vllm.prompts import Prompts
from service.engines.vllm_plugin import SWITCH, register

LAYERS = (2, 3, 4, 5)
COLUMNS = 9
REQUESTS = (1, 8, 64, 256)


class Stopwatch:
    """Time inside a function, and inside the function that it wraps; one entry per call."""

    def __init__(self) -> None:
        self.own: list[float] = []
        self._inner = 0.0

    def inner(self, wrapped: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return wrapped(*args, **options)
            finally:
                self._inner += time.perf_counter() - begun

        return call

    def outer(self, wrapping: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self._inner = 0.0
            begun = time.perf_counter()
            result = wrapping(*args, **options)
            self.own.append(time.perf_counter() - begun - self._inner)
            return result

        return call


def measure(folder: Path, tokens: int) -> dict[str, Any]:
    """Median microseconds per decode step, by requests in the step."""
    os.environ[SWITCH] = "1"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    from service.engines.vllm_plugin import compat
    from service.engines.vllm_plugin.record import KEY
    from service.engines.vllm_plugin.runner import Reader

    worker, scheduler = Stopwatch(), Stopwatch()
    cls = compat.scheduler_class()
    cls.update_from_output = scheduler.inner(cls.update_from_output)
    register()
    cls.update_from_output = scheduler.outer(cls.update_from_output)
    sample = Reader.sample

    def watched(self: Reader, runner: Any, original: Any, *args: Any, **options: Any) -> Any:
        return worker.outer(sample)(self, runner, worker.inner(original), *args, **options)

    Reader.sample = watched  # type: ignore[method-assign]

    prompts = Prompts(str(folder))
    options = VllmOptions(
        max_num_seqs=max(REQUESTS), max_model_len=256, enforce_eager=True,
        arguments={"block_size": 32, "enable_chunked_prefill": False, "seed": 0},
    )  # fmt: skip
    llm = LLM(**engine_arguments(str(folder), "float32", options, LAYERS, (), prompts.loading))
    hidden = llm.llm_engine.model_config.get_hidden_size()
    numbers = np.random.default_rng(0)
    matrices = {k: numbers.normal(size=(hidden, COLUMNS)).astype(np.float32) for k in LAYERS}
    plan = Plan((Readout(LAYERS, POSITIONS, matrices),), LAYERS, hidden)
    llm.collective_rpc("vlm_gate_install", args=(plan.message(),))
    sampling = SamplingParams(
        temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False,
        extra_args={KEY: {"attention": False}},
    )  # fmt: skip
    found: dict[str, Any] = {}
    for count in REQUESTS:
        asked = [
            prompts.prompt(Query(image, "is there a dog?", tokens))
            for image in numbers.integers(0, 256, (count, 64, 64, 3), np.uint8)
        ]
        llm.generate(asked, sampling, use_tqdm=False)
        worker.own.clear()
        scheduler.own.clear()
        outputs = llm.generate(asked, sampling, use_tqdm=False)
        assert all((output.kv_transfer_params or {}).get(KEY) for output in outputs)
        # The last steps: all prompts are read, and the step that ends the answers is left out.
        steps = slice(-(tokens // 2), -1)
        found[str(count)] = {
            "worker": round(1e6 * median(worker.own[steps]), 1),
            "scheduler": round(1e6 * median(scheduler.own[steps]), 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "testbed" / "models" / "llava")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="result, as JSON")
    arguments = parser.parse_args()
    result = {
        "host": describe(),
        "microseconds_per_step": measure(arguments.model, arguments.tokens),
    }
    text = json.dumps(result, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
