"""What the engine may call in a worker, by vLLM's ``collective_rpc``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.engines.vllm_plugin.record import KEY
from service.engines.vllm_plugin.runner import Reader


class WorkerCalls:
    """Mixed into vLLM's worker class (``worker_extension_cls``)."""

    model_runner: Any

    def vlm_gate_status(self) -> dict[str, Any]:
        """What is armed, why attention or graphs cannot be used if they cannot, and counts."""
        reader = _reader(self.model_runner)
        if reader is None:
            return {"armed": False}
        return {
            "armed": True,
            "layers": list(reader.layers),
            "attention_layers": list(reader.attention.layers),
            "attention_missing": reader.attention.missing,
            "runner": type(self.model_runner).__module__,
            "preempted": reader.preempted,
            "graphs": None if reader.graphs is None else len(reader.graphs),
            "graphs_missing": None if reader.graphs is None else reader.graphs.missing,
        }

    def vlm_gate_install(self, plan: Mapping[str, Any]) -> None:
        """Set what is computed from now on; see :meth:`Reader.install`."""
        reader = _reader(self.model_runner)
        assert reader is not None
        reader.install(plan)

    def vlm_gate_check(self, on: bool) -> dict[str, float]:
        """Start or end the check of attention; per layer the largest deviation since its start."""
        reader = _reader(self.model_runner)
        assert reader is not None
        return reader.attention.check(on)


def _reader(runner: Any) -> Reader | None:
    found: Reader | None = getattr(runner, KEY, None)
    return found
