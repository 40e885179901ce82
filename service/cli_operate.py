"""The commands of who operates it: fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(fetch)


def fetch(
    url: Annotated[str, typer.Argument(help="folder: s3://, hf://, https:// or a path")],
    out: Annotated[Path, typer.Option(help="folder to bring it to; what fits is kept")],
    sha256: Annotated[str, typer.Option(help="of the SHA256SUMS file in that folder")],
) -> None:
    """Bring a model or a bundle here and check every byte of it."""
    from service.fetch import FetchError
    from service.fetch import fetch as run_fetch

    try:
        count = run_fetch(url, out, sha256)
    except FetchError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{count} files fetched, all of {out} as SHA256SUMS says")
