"""What a profile of decode steps is summed up to."""

from __future__ import annotations

from typing import Any

from benchmarks.step_profile import per_step


def event(name: str, ts: float, dur: float, cat: str = "kernel") -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur}


def test_two_steps() -> None:
    events = [
        event("python", 0.0, 900.0, "cpu_op"),
        {"ph": "M", "name": "process_name"},
        *(event("matmul", at, 30.0) for at in (100.0, 200.0)),
        *(event("copy", at, 5.0, "gpu_memcpy") for at in (140.0, 295.0)),
    ]
    assert per_step({"traceEvents": events}, 2) == {
        "whole": 100.0,
        "busy": 35.0,
        "launches": 2.0,
        "operations": {"matmul": 30.0, "copy": 5.0},
    }


def test_without_a_gpu_only_the_length() -> None:
    found = per_step({"traceEvents": [event("python", 10.0, 40.0, "cpu_op")]}, 4)
    assert found == {"whole": 10.0, "busy": 0, "launches": 0.0, "operations": {}}
