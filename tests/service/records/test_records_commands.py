"""`vlm-gate records migrate|verify|export|prune` on the service's own settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import delete, update
from typer.testing import CliRunner

from service.cli import app
from service.records.head import SigningKey
from service.records.store import RecordStore
from service.records.tables import answers, heads, outcomes, tails

Run = Callable[..., Any]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "state" / "signing-key.pem")


@pytest.fixture
def run(url: str, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in the service's environment."""
    for name in [name for name in os.environ if name.startswith("VLM_GATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VLM_GATE_RECORDS_URL", url)
    monkeypatch.setenv("VLM_GATE_STATE_FOLDER", str(tmp_path / "state"))
    return lambda *words: CliRunner().invoke(app, ["records", *map(str, words)])


@pytest.fixture
def filled(url: str, key: SigningKey, open_store, record) -> RecordStore:
    """Five answers, a day apart; the youngest is of now."""
    store: RecordStore = open_store(url, key=key)
    now = datetime.now(UTC)
    store.append_answers([record(created=now - timedelta(days=days)) for days in (4, 3, 2, 1, 0)])
    return store


def test_migrate_makes_the_tables_and_may_run_again(url, run, open_store, key) -> None:
    for _ in range(2):
        told = run("migrate")
        assert told.exit_code == 0, told.output
        assert "up to date" in told.stdout
    store: RecordStore = open_store(url, key=key, migrated=False)
    assert store.heads() == []


def test_migrate_without_records_says_what_to_set(run, monkeypatch) -> None:
    monkeypatch.setenv("VLM_GATE_RECORDS_URL", "")
    told = run("migrate")
    assert told.exit_code == 1
    assert "VLM_GATE_RECORDS_URL is empty" in told.stderr


def test_verify_says_that_nothing_was_changed(filled, run) -> None:
    told = run("verify")
    assert told.exit_code == 0, told.output
    assert "5 rows in 1 chains" in told.stdout


def test_verify_finds_what_was_changed(filled, run) -> None:
    with filled.writing() as connection:
        connection.execute(update(answers).where(answers.c.sequence == 3).values(risk=0.0))
    told = run("verify")
    assert told.exit_code == 1
    assert "changed: answers:one row 3" in told.stderr


def test_verify_knows_the_keys_that_it_is_given(filled, run, record, url, open_store, tmp_path):
    other = SigningKey.generate()
    open_store(url, writer="two", key=other).append_answers([record()])
    assert run("verify").exit_code == 1
    pem = tmp_path / "other.pem"
    pem.write_bytes(other.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert run("verify", "--public-key", pem).exit_code == 0
    pem.write_text("no key")
    assert "public key" in run("verify", "--public-key", pem).stderr


def test_anchors_find_a_database_that_was_emptied(filled, run, tmp_path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    assert run("verify", "--anchors", anchors).exit_code == 0
    assert run("verify", "--anchors", anchors).exit_code == 0
    with filled.writing() as connection:
        for table in (answers, outcomes, heads, tails):
            connection.execute(delete(table))
    assert run("verify").exit_code == 0
    told = run("verify", "--anchors", anchors)
    assert told.exit_code == 1
    assert "removed" in told.stderr
    anchors.write_text("{}\n")
    assert "not the anchors" in run("verify", "--anchors", anchors).stderr


def test_export_writes_a_window(filled, run, tmp_path) -> None:
    out = tmp_path / "answers.parquet"
    since = (datetime.now(UTC) - timedelta(days=2, hours=12)).strftime("%Y-%m-%dT%H:%M:%S%z")
    told = run("export", out, "--since", since)
    assert told.exit_code == 0, told.output
    assert pq.read_table(out).num_rows == 3
    assert run("export", out).exit_code == 0
    assert pq.read_table(out).num_rows == 5


def test_prune_deletes_and_the_rest_verifies(filled, run) -> None:
    told = run("prune", "--days", 2)
    assert told.exit_code == 0, told.output
    assert "3 answers and 0 outcomes deleted" in told.stdout
    assert run("verify").exit_code == 0


def test_records_that_are_not_there_are_not_made(run, monkeypatch, tmp_path) -> None:
    file = tmp_path / "nowhere.db"
    monkeypatch.setenv("VLM_GATE_RECORDS_URL", f"sqlite:///{file}")
    for command in (["verify"], ["export", str(tmp_path / "x.parquet")], ["prune", "--days", "1"]):
        told = run(*command)
        assert (told.exit_code, "there is no file" in told.stderr) == (1, True)
    assert not file.exists()
    monkeypatch.setenv("VLM_GATE_RECORDS_URL", "")
    assert "VLM_GATE_RECORDS_URL" in run("verify").stderr
