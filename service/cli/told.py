"""What a command says of an error that its user can mend, and its exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from probes.errors import GateError

NO_CERTIFICATE = 3
"""Exit status of a command that did its work and had to say: nothing can be promised."""


def no_certificate(why: str) -> NoReturn:
    """Say that nothing can be promised, and end with :data:`NO_CERTIFICATE`."""
    typer.echo(f"no certificate: {why}", err=True)
    raise typer.Exit(NO_CERTIFICATE)


@contextmanager
def told(*more: type[Exception]) -> Iterator[None]:
    """Say the error and end with 1: the gate's own errors, and ``more``."""
    expected: tuple[type[Exception], ...] = (GateError, *more)
    try:
        yield
    except expected as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
