"""One answer of a run: its text and small numbers, and their row in a parquet file."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from probes.types import AttentionConcentration, Missing, TokenConfidence


@dataclass(frozen=True, slots=True)
class Record:
    """One answer's text and small numbers."""

    id: str
    image_path: str
    image_hash: str
    question: str
    references: tuple[str, ...]
    kind: str
    slice: str
    rule: str
    answer: str
    parsed: str
    wrong: bool
    finish_reason: Literal["stop", "length"]
    tokens: int
    confidence: TokenConfidence | Missing
    attention: AttentionConcentration | Missing
    samples: tuple[str, ...]
    group: str | None = None


_CONFIDENCE = tuple(field.name for field in fields(TokenConfidence))
_ATTENTION = tuple(field.name for field in fields(AttentionConcentration))
_TEXTS = ("id", "image_path", "image_hash", "question", "kind", "slice", "rule", "answer")
_MORE = ("parsed", "finish_reason", "references", "samples", "wrong", "tokens", "group")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in (*_TEXTS, "parsed", "finish_reason", "group")]
    + [(name, pa.list_(pa.string())) for name in ("references", "samples")]
    + [("wrong", pa.bool_()), ("tokens", pa.int64())]
    + [(name, pa.float64()) for name in (*_CONFIDENCE, *_ATTENTION)]
    + [(name, pa.string()) for name in ("confidence_missing", "attention_missing")]
)


def to_row(record: Record, folder: Path) -> dict[str, Any]:
    """Make a row; the image's path is relative to the run, so that both can move together."""
    row = {name: getattr(record, name) for name in (*_TEXTS, *_MORE)}
    row["image_path"] = os.path.relpath(record.image_path, folder)
    for name in ("confidence", "attention"):
        signal = getattr(record, name)
        if isinstance(signal, Missing):
            row[f"{name}_missing"] = signal.reason
        else:
            row |= asdict(signal)
    return row


def from_row(row: dict[str, Any], folder: Path) -> Record:
    """Read what :func:`to_row` wrote."""
    row["image_path"] = os.path.normpath(folder / row["image_path"])
    confidence = {name: row.pop(name) for name in _CONFIDENCE}
    attention = {name: row.pop(name) for name in _ATTENTION}
    no_confidence, no_attention = row.pop("confidence_missing"), row.pop("attention_missing")
    if no_attention is None:
        attention["clusters"] = int(attention["clusters"])
    row["references"], row["samples"] = tuple(row["references"]), tuple(row["samples"])
    return Record(
        **row,
        confidence=Missing(no_confidence) if no_confidence else TokenConfidence(**confidence),
        attention=Missing(no_attention) if no_attention else AttentionConcentration(**attention),
    )
