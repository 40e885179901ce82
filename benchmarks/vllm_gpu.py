"""What is measured about vLLM on GPUs: ``python3 -m benchmarks.vllm_gpu PART... --out FILE``.

Parts: ``agreement`` (an embedded model against transformers), ``throughput`` (plain vLLM and the
gate's engine in turns, at a published model's size), ``soak`` (mixed load with clients that go
away), ``consistency`` (what self-consistency costs and buys on the embedded model), ``serving``
(``vlm-gate serve`` beside ``vllm serve``; needs all of the service's packages). A part that
fails leaves its traceback in the result and the next one runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.host import Results, provide_plugin

PARTS = ("agreement", "throughput", "soak", "consistency", "serving")


def main() -> None:
    options = arguments()
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends as well
    provide_plugin()
    results = Results(options.out, options.part_seconds)
    asyncio.run(measure(results, options))
    print(json.dumps(results.found), flush=True)
    if results.gave_up:
        os._exit(1)  # a start of vLLM that hangs in a thread would keep this process for ever


async def measure(results: Results, options: argparse.Namespace) -> None:
    """Run the parts asked for, each with its own failure."""
    from benchmarks.agreement import Trial, agreement
    from benchmarks.soak import soak
    from benchmarks.throughput import Load, throughput

    toy = options.toy
    for part in options.parts:
        for model in options.models.split(","):
            trial = Trial(
                model=model,
                dtype="float32" if toy else "bfloat16",
                device="cpu" if toy else "cuda",
                questions=options.questions,
                sizes=(1, 3, 9) if toy else (1, 7, 8, 9, 65, 257),
                tensor_parallel_size=options.tensor_parallel_size,
                eager=options.eager,
                # A cache of its own size: several trials may share a card.
                arguments=(("block_size", 32),) if toy else (("kv_cache_memory_bytes", 4 << 30),),
            )
            if part == "agreement":
                await results.part(f"agreement_{model}", partial(agreement, trial=trial))
            if part == "consistency":

                async def measured(found: dict[str, Any], trial: Trial = trial) -> None:
                    from benchmarks.consistency import consistency  # needs structlog and sqlalchemy

                    await consistency(found, trial)

                await results.part(f"consistency_{model}", measured)
            if part == "soak":
                run = partial(soak, trial=trial, seconds=options.seconds)
                await results.part(f"soak_{model}", run)
        for shape in options.shapes.split(",") if part == "serving" else ():
            from benchmarks.serving import Serving, serving

            over_http = Serving(
                shape, requests=2 * options.requests, tokens=options.tokens,
                rounds=options.rounds, memory=options.memory, toy=toy,
                cache_bytes=int(options.cache_gib * 2**30),
                concurrencies=tuple(int(count) for count in options.at_once.split(",")),
                gate_arguments=json.loads(options.gate_arguments),
            )  # fmt: skip
            folder = Path(tempfile.mkdtemp(prefix="serving-"))
            run = partial(serving, load=over_http, folder=folder)
            await results.part(f"serving_{shape}", run)
        for shape in options.shapes.split(",") if part == "throughput" else ():
            load = Load(
                shape=shape,
                requests=options.requests,
                tokens=options.tokens,
                rounds=options.rounds,
                toy=toy,
                memory=options.memory,
                cache_bytes=int(options.cache_gib * 2**30),
                tensor_parallel_size=options.tensor_parallel_size,
                profile=options.profile,
            )
            folder = Path(tempfile.mkdtemp(prefix="shape-")) / shape
            await results.part(f"throughput_{shape}", partial(throughput, load=load, folder=folder))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    parser.add_argument("--models", default="llava", help="embedded models, split at commas")
    parser.add_argument("--shapes", default="llava-1.5-7b", help="sizes, split at commas")
    parser.add_argument("--questions", type=int, default=1000, help="of agreement, consistency")
    parser.add_argument("--requests", type=int, default=256, help="at once, of throughput")
    parser.add_argument("--at-once", default="64,256", help="requests, of serving, split at commas")
    parser.add_argument(
        "--gate-arguments", default="{}", help="JSON: more of vLLM's for the gate, of serving"
    )
    parser.add_argument("--tokens", type=int, default=16, help="of an answer, of throughput")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput")
    parser.add_argument("--memory", type=float, default=0.45, help="of the card, of throughput")
    parser.add_argument(
        "--cache-gib", type=float, default=18, help="of each engine, of throughput and serving"
    )
    parser.add_argument("--part-seconds", type=float, default=900, help="most time of one part")
    parser.add_argument("--seconds", type=float, default=600, help="of soak")
    parser.add_argument("--tensor-parallel-size", type=int, default=1, help="not of serving")
    parser.add_argument("--profile", action="store_true", help="throughput: the steps' kernels too")
    parser.add_argument("--eager", action="store_true", help="agreement without graphs as well")
    parser.add_argument("--toy", action="store_true", help="a trial on a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
