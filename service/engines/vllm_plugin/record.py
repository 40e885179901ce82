"""What is read of one request: rows of one step in, one record out, as bytes across processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probes.types import FloatArray
from service.engines.vllm_plugin.scores import entropy_and_margin

KEY = "vlm_gate"
"""Name of ours in vLLM's dictionaries: additional_config, extra_args, kv_transfer_params."""
PROMPT = "vlm_gate_prompt"
"""In extra_args: tokens of a prompt that attends both ways as a whole."""
FIRST = "first"
"""In the check of attention: what it found at the first positions of such prompts."""


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """One step of the model: what stands at the last position of each of its requests.

    Args:
        rows: row of each request that asked for a record, by vLLM's id.
        hidden: (rows, layers, columns), float32.
        logprobs: of each row's likeliest token.
        logits: what is left of each row's logits, (rows, parts, 4); see ``scores.summed``.
        attention: (rows, attention layers, image tokens), float32, ended by 0s.
        image_tokens: per row, how many of those columns are its own.
    """

    rows: Mapping[str, int]
    hidden: FloatArray
    logprobs: Sequence[float]
    logits: FloatArray
    attention: FloatArray
    image_tokens: Sequence[int]


@dataclass(slots=True, eq=False)
class Record:
    """What was read of a request: its last prompt token, and the sum over its answer tokens.

    Args:
        hidden: of the last prompt token, (layers, columns).
        attention: of the last prompt token, (attention layers, image tokens).
        entropy: of the first answer token's distribution, nats.
        margin: its largest minus its second-largest logit.
        hidden_sum: over the answer tokens that have a state, shape of ``hidden``.
        hidden_last: of the last of them.
        attention_sum: over them, shape of ``attention``.
        states: how many those are.
        logprobs: of each sampled token, if it was the likeliest.
    """

    hidden: FloatArray
    attention: FloatArray
    entropy: float
    margin: float
    hidden_sum: FloatArray
    hidden_last: FloatArray
    attention_sum: FloatArray
    states: int = 0
    logprobs: list[float] = field(default_factory=list)

    @staticmethod
    def begin(rows: StepRows, row: int) -> Record:
        """From the row of the last prompt token."""
        # Copies: a record outlives its step, whose arrays hold every other request's rows too.
        hidden = rows.hidden[row].copy()
        attention = rows.attention[row, :, : rows.image_tokens[row]].copy()
        entropy, margin = entropy_and_margin(rows.logits[row])
        return Record(
            hidden=hidden,
            attention=attention,
            entropy=entropy,
            margin=margin,
            hidden_sum=np.zeros_like(hidden),
            hidden_last=hidden.copy(),
            attention_sum=np.zeros_like(attention),
            logprobs=[rows.logprobs[row]],
        )

    def add(self, rows: StepRows, row: int) -> None:
        """The row of an answer token."""
        self.hidden_last[...] = rows.hidden[row]
        self.hidden_sum += self.hidden_last
        if self.attention_sum.size:
            self.attention_sum += rows.attention[row, :, : rows.image_tokens[row]]
        self.states += 1
        self.logprobs.append(rows.logprobs[row])

    def pack(self) -> dict[str, Any]:
        """As plain values and bytes."""
        return {
            "states": self.states,
            "scores": [self.entropy, self.margin],
            "logprobs": np.asarray(self.logprobs, np.float32).tobytes(),
            "hidden_shape": list(self.hidden.shape),
            "hidden": np.stack([self.hidden, self.hidden_sum, self.hidden_last])
            .astype(np.float32)
            .tobytes(),
            "attention_shape": list(self.attention.shape),
            "attention": np.stack([self.attention, self.attention_sum])
            .astype(np.float32)
            .tobytes(),
        }

    @staticmethod
    def unpack(packed: Mapping[str, Any]) -> Record:
        """The record that :meth:`pack` made."""
        hidden = np.frombuffer(packed["hidden"], np.float32).reshape(3, *packed["hidden_shape"])
        attention = np.frombuffer(packed["attention"], np.float32)
        attention = attention.reshape(2, *packed["attention_shape"])
        entropy, margin = packed["scores"]
        return Record(
            hidden=hidden[0],
            attention=attention[0],
            entropy=entropy,
            margin=margin,
            hidden_sum=hidden[1],
            hidden_last=hidden[2],
            attention_sum=attention[1],
            states=packed["states"],
            logprobs=np.frombuffer(packed["logprobs"], np.float32).tolist(),
        )
