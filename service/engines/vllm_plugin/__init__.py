"""Runs inside vLLM's processes: reads hidden states and attention in flight.

vLLM loads :func:`register` through the entry point group ``vllm.general_plugins`` in every process
that it starts. It does nothing unless the gate's engine started that vLLM: the engine sets
:data:`SWITCH` for its own child processes and puts its wishes into ``additional_config``.

    compat.py      every attribute of vLLM that is not public, in one place
    limits.py      ways of running that are refused
    hidden.py      hidden states out of the compiled model
    attention.py   queries kept during the forward pass, attention recomputed from the KV cache
    kernel.py      the same on a GPU
    prefix.py      prompts that attend both ways as a whole
    scores.py      probability of the likeliest token, entropy and margin
    score_kernel.py  the same on a GPU
    rows.py        what is computed of a step, on the device
    graph.py       the same as one CUDA graph
    copies.py      its copy to the host
    runner.py      the model runner's part: one row per request and step
    scheduler.py   the scheduler's part: rows to one record per request
    record.py      the record, as it travels to the engine
    worker.py      what the engine may call in a worker
"""

from __future__ import annotations

import os

SWITCH = "_VLM_GATE_IN_VLLM"
"""Environment variable that the engine sets for its vLLM processes."""

_registered = False


def register() -> None:
    """Wrap vLLM's model runners and its scheduler. May be called twice."""
    global _registered
    if _registered or os.environ.get(SWITCH) != "1":
        return
    _registered = True
    from service.engines.vllm_plugin import runner, scheduler

    runner.install()
    scheduler.install()
