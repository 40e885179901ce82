"""``vlm-gate keys``: who may call, in the file that VLM_GATE_API_KEYS_FILE names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.access.key_file import (
    SCOPES,
    ApiKey,
    KeyFileError,
    Scope,
    load_keys,
    new_key,
    revoke,
    save_keys,
    utc_now,
)
from service.cli.told import stop, told

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
KeysFile = Annotated[
    Path, typer.Option("--file", envvar="VLM_GATE_API_KEYS_FILE", help="the file of keys")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(keys, name="keys")


@keys.command()
def create(
    file: KeysFile,
    name: Annotated[str, typer.Option(help="whose key it is, such as: line 3")],
    scope: Annotated[list[str], typer.Option(help="answer, review or admin; may be repeated")],
    days: Annotated[int | None, typer.Option(min=1, help="days until it expires")] = None,
) -> None:
    """Make a key and print it, this once."""
    scopes: list[Scope] = [known for known in SCOPES if known in scope]
    if len(scopes) < len(set(scope)):
        stop(f"--scope takes {', '.join(SCOPES)}")
    now = utc_now()
    whole, kept = new_key(name, scopes, now, None if days is None else now + timedelta(days))
    with told(KeyFileError):
        save_keys(file, [*_held(file), kept])
    typer.echo(f"key {kept.id} for {', '.join(scopes)}; it is shown this once:", err=True)
    typer.echo(whole)


@keys.command(name="list")
def list_keys(file: KeysFile) -> None:
    """Show the keys: ids, names, scopes, states; never the secrets, which are not kept."""
    with told(KeyFileError):
        held = load_keys(file).keys
    table = Table(box=None)
    for heading in ("id", "name", "scopes", "state", "created", "expires"):
        table.add_column(heading)
    for key in held:
        until = key.expires[:10] if key.expires else "never"
        scopes = ",".join(key.scopes)
        table.add_row(key.id, key.name, scopes, key.state(utc_now()), key.created[:10], until)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


@keys.command(name="revoke")
def revoke_key(
    file: KeysFile, identity: Annotated[str, typer.Argument(metavar="ID", help="of the key")]
) -> None:
    """Revoke a key; a running service refuses it from its next request on."""
    with told(KeyFileError):
        save_keys(file, revoke(load_keys(file).keys, identity, utc_now()))
    typer.echo(f"key {identity} is revoked", err=True)


def _held(file: Path) -> tuple[ApiKey, ...]:
    return load_keys(file).keys if file.exists() else ()
