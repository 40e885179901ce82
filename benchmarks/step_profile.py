"""Where a decode step's time goes on the GPU: vLLM's own profiler, in several ways of asking."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from probes.types import Query

STEPS = 32
"""Profiled, after as many that are not."""
ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")
MOST = 12
"""Operations told by name."""


def profiler(folder: Path) -> dict[str, Any]:
    """Argument of AsyncEngineArgs that has an engine write its profiles to a folder."""
    from vllm.config import ProfilerConfig

    folder.mkdir(parents=True, exist_ok=True)
    return {
        "profiler_config": ProfilerConfig(
            profiler="torch",
            torch_profiler_dir=str(folder),
            torch_profiler_with_stack=False,
            ignore_frontend=True,
            delay_iterations=STEPS,
            max_iterations=STEPS,
        )
    }


async def profile(
    found: dict[str, Any],
    ways: Mapping[str, tuple[Callable[[Query], Awaitable[int]], Any, Path]],
    asked: Callable[[int], list[Query]],
) -> None:
    """Profile the decode steps of each way.

    Args:
        found: gets, per way, microseconds per step, and what takes more of them than in the first.
        ways: by name, how to ask, the ``AsyncLLM`` asked, and the folder of its profiles.
        asked: new queries by seed, all asked at once, of more than twice the steps in tokens.
    """
    told: dict[str, dict[str, Any]] = {}
    found["step_profile"] = told
    first: dict[str, float] = {}
    for place, (way, (ask, llm, folder)) in enumerate(ways.items()):
        before = set(folder.rglob("*.json*"))
        await llm.start_profile()
        await asyncio.gather(*(ask(query) for query in asked(50_000 + place)))
        await llm.stop_profile()
        written = sorted(set(folder.rglob("*.json*")) - before)
        if not written:
            told[way] = {"missing": "vLLM wrote no profile"}
            continue
        step = per_step(json.loads(_text(written[0])), STEPS)
        names = step.pop("operations")
        first = first or names
        more = Counter({name: names[name] - first.get(name, 0.0) for name in names})
        told[way] = step | {
            "more_than_first": {
                name: round(value, 1) for name, value in more.most_common(MOST) if value > 0
            }
        }


def per_step(trace: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Microseconds per step of a Chrome trace: from begin to end, busy, and by operation.

    Args:
        trace: with the GPU's operations; one without them says nothing but its length.
        steps: how many it holds.
    """
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    on_gpu = [event for event in events if event.get("cat") in ON_GPU]
    lasts = on_gpu or events
    begin = min(event["ts"] for event in lasts)
    end = max(event["ts"] + event["dur"] for event in lasts)
    names: Counter[str] = Counter()
    for event in on_gpu:
        names[event["name"]] += event["dur"] / steps
    return {
        "whole": round((end - begin) / steps, 1),
        "busy": round(sum(names.values()), 1),
        "launches": round(len(on_gpu) / steps, 1),
        "operations": dict(names),
    }


def _text(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt") as file:
            return file.read()
    return path.read_text()
