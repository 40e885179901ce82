from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from probes.types import Missing
from service.offline.export import SCHEMA, export_parquet
from service.records.answer import AnswerRecord
from service.records.listing import Filter
from service.records.outcome import Outcome
from service.records.store import RecordStore

Make = Callable[..., AnswerRecord]


def test_every_answer_is_exported_with_its_latest_outcome(
    store: RecordStore, record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.offline.export.PAGE_ROWS", 2)
    records = [record(), record(risk=Missing("engine_error")), record(decision="accept")]
    store.append_answers(records)
    told = datetime(2026, 5, 1, tzinfo=UTC)
    store.add_outcome(Outcome(records[0].id, told, correct=True, reviewer="ann"))
    store.add_outcome(Outcome(records[0].id, told, correct=False, reviewer="ann"))
    path = tmp_path / "records.parquet"
    assert export_parquet(store, path) == 3
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    rows = {row["id"]: row for row in table.to_pylist()}
    first, second, third = (rows[one.id] for one in records)
    assert first["outcome_correct"] is False
    assert (first["outcome_reviewer"], first["outcome_created"]) == ("ann", told)
    assert (first["risk"], first["risk_missing"]) == (records[0].risk, None)
    assert (second["risk"], second["risk_missing"]) == (None, "engine_error")
    assert third["outcome_correct"] is None
    assert json.loads(third["signals"]) == records[2].signals
    assert third["created"] == records[2].created
    assert export_parquet(store, path, Filter(decision="accept")) == 1


def test_nothing_exported_is_a_table_all_the_same(store: RecordStore, tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    assert export_parquet(store, path) == 0
    assert pq.read_table(path).num_rows == 0
    assert [one.name for one in tmp_path.iterdir() if "parquet" in one.name] == [path.name]
