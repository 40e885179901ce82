"""The commands on the records: migrate, verify, export, prune. They read the service's settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probes.atomic_write import replacing
from service.cli.told import told
from service.records.errors import RecordsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from service.records.head import Head
    from service.records.store import RecordStore

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"])]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    records = typer.Typer(no_args_is_help=True, help="Check, export and delete records.")
    for command in (migrate, verify, export, prune):
        records.command()(command)
    app.add_typer(records, name="records")


def migrate() -> None:
    """Bring the tables up to date before a new version starts; without it, the first start does."""
    from sqlalchemy.engine import make_url

    from service.records import database
    from service.settings import SettingsError, load_settings

    with told(RecordsError, SettingsError, OSError):
        settings = load_settings()
        url = settings.records_database
        if url is None:
            raise RecordsError("VLM_GATE_RECORDS_URL is empty: there are no records to migrate")
        if make_url(url).get_backend_name() == "sqlite":
            settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = database.connect(url, prepared=settings.records_prepared_statements)
        try:
            database.migrate(engine)
        finally:
            engine.dispose()
    typer.echo("the tables are up to date")


def verify(
    public_key: Annotated[
        list[Path] | None, typer.Option(help="PEM file of another writer's or an earlier key")
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="file outside the database: signed ends, checked and then renewed"),
    ] = None,
) -> None:
    """Read every row and follow every chain; ends with 1 when something was changed."""
    from service.records.verify import verify as run_verification

    with open_records() as store:
        keys = [_public_key(path) for path in public_key or ()]
        kept = [] if anchors is None or not anchors.exists() else _read_anchors(anchors)
        heads = store.heads()
        report = run_verification(store, keys=keys, anchors=kept)
        for problem in report.problems:
            where = f"{problem.chain} row {problem.sequence}"
            typer.echo(f"{problem.kind}: {where}: {problem.detail}", err=True)
        if not report.ok:
            raise RecordsError(f"{len(report.problems)} problems in {report.rows} rows")
        if anchors is not None:
            _write_anchors(anchors, heads)
        typer.echo(f"{report.rows} rows in {report.chains} chains are as they were written")


def export(
    out: Annotated[Path, typer.Argument(help="Parquet file to write", dir_okay=False)],
    since: Day = None,
    until: Day = None,
) -> None:
    """Write answers, each with its latest outcome, to a Parquet file."""
    from service.offline.export import export_parquet
    from service.records.listing import Filter

    with open_records() as store:
        count = export_parquet(store, out, Filter(since=utc(since), until=utc(until)))
        typer.echo(f"{count} answers in {out}")


def prune(
    days: Annotated[int, typer.Option(help="delete what is older than this", min=1)],
) -> None:
    """Delete old answers, outcomes and images; what is left still verifies."""
    from service.records.images import ImageArchive
    from service.records.retention import delete_before
    from service.settings import load_settings

    with open_records() as store:
        cutoff = datetime.now(UTC) - timedelta(days=days)
        deleted = delete_before(store, cutoff)
        typer.echo(f"{deleted.answers} answers and {deleted.outcomes} outcomes deleted")
        if url := load_settings().images_url:
            typer.echo(f"{ImageArchive(url).delete_before(cutoff)} days of images deleted")


@contextmanager
def open_records() -> Iterator[RecordStore]:
    """The store of the settings; what goes wrong ends the command with one line."""
    from service.gate.record_keeping import open_store
    from service.settings import SettingsError, load_settings

    with told(RecordsError, SettingsError, OSError):
        settings = load_settings()
        _must_exist(settings.records_database, settings.records_key_path)
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()


def _must_exist(url: str | None, key: Path) -> None:
    """Opening SQLite would make an empty database, and opening a key a new one."""
    from sqlalchemy.engine import make_url

    if url is None:
        return
    file = make_url(url).database if url.startswith("sqlite") else None
    for path in (key, *([Path(file)] if file else [])):
        if not path.is_file():
            raise RecordsError(
                f"there is no file {path}; run it where the service runs, with its settings"
            )


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise RecordsError(f"{path}: {error}; name a PEM file of a public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RecordsError(f"{path} holds no Ed25519 public key")
    return key


def _read_anchors(path: Path) -> list[Head]:
    from service.records.head import Head

    try:
        return [Head(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise RecordsError(f"{path}: not the anchors that verify wrote: {error}") from error


def _write_anchors(path: Path, heads: list[Head]) -> None:
    with replacing(path) as draft:
        draft.write_text("".join(f"{json.dumps(asdict(head))}\n" for head in heads))


def utc(day: datetime | None) -> datetime | None:
    return day if day is None or day.tzinfo is not None else day.replace(tzinfo=UTC)
