"""Records as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from probes.atomic_write import replacing
from probes.types import Missing
from service.records.answer import AnswerRecord
from service.records.canonical import canonical_json
from service.records.listing import Filter
from service.records.store import RecordStore
from service.records.words import Ruling

PAGE_ROWS = 1000
TEXT, NUMBER, FLAG = pa.string(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "id": TEXT,
        "created": TIME,
        "question_sha256": TEXT,
        "question": TEXT,
        "image_sha256": TEXT,
        "answer": TEXT,
        "model": TEXT,
        "revision": TEXT,
        "bundle": TEXT,
        "certificate": TEXT,
        "decision": TEXT,
        "reason": TEXT,
        "mode": TEXT,
        "self_consistency": TEXT,
        "risk": NUMBER,
        "risk_missing": TEXT,
        "stage": pa.int8(),
        "accept_below": NUMBER,
        "reject_above": NUMBER,
        "signals": TEXT,  # JSON, as in the response
        "timings": TEXT,  # JSON, seconds
        "metadata": TEXT,  # JSON
        "group": TEXT,
        "candidate": TEXT,  # JSON; null where none was scored
        "scope": TEXT,
        "audit": FLAG,
        "audit_probability": NUMBER,
        "audit_reference": NUMBER,
        "outcome_correct": FLAG,  # of the outcome that counts
        "outcome_reference": TEXT,
        "outcome_rule": TEXT,
        "outcome_wrong": FLAG,  # as the judge says, by that rule
        "outcome_reviewer": TEXT,
        "outcome_created": TIME,
        "outcome_cannot_tell": FLAG,
        "outcome_note": TEXT,
    }
)


def export_parquet(store: RecordStore, path: Path, where: Filter | None = None) -> int:
    """Write answers with the outcome that counts, newest first; returns how many.

    The file appears under its name only when it is whole.

    Raises:
        RecordsUnavailable: the database does not work now.
        OSError: the file cannot be written.
    """
    count, after = 0, ""
    with replacing(path) as draft, pq.ParquetWriter(draft, SCHEMA) as writer:
        while True:
            page = store.page(where, limit=PAGE_ROWS, after=after)
            rulings = store.rulings(page.answers)
            rows = [_row(record, rulings.get(record.id)) for record in page.answers]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
            count += len(rows)
            if page.next is None:
                break
            after = page.next
    return count


def _row(record: AnswerRecord, ruling: Ruling | None) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in SCHEMA.names if hasattr(record, name)}
    if isinstance(record.risk, Missing):
        row |= {"risk": None, "risk_missing": record.risk.reason}
    for name in ("signals", "timings", "metadata", "candidate"):
        row[name] = None if row[name] is None else canonical_json(row[name])
    if ruling is not None:
        outcome = ruling.outcome
        row["outcome_cannot_tell"], row["outcome_note"] = outcome.cannot_tell, outcome.note
        row["outcome_correct"] = outcome.correct
        row["outcome_reference"] = outcome.reference
        row["outcome_rule"] = outcome.rule
        row["outcome_wrong"] = None if isinstance(ruling.wrong, Missing) else ruling.wrong
        row["outcome_reviewer"] = outcome.reviewer
        row["outcome_created"] = outcome.created
    return row
