"""What a command says of an error that its user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from probes.errors import GateError


@contextmanager
def told(*more: type[Exception]) -> Iterator[None]:
    """Say the error and end with 1: the gate's own errors, and ``more``."""
    expected: tuple[type[Exception], ...] = (GateError, *more)
    try:
        yield
    except expected as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
