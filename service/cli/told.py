"""What a command says of an error that its user can mend, and its exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from probes.errors import GateError

NO_CERTIFICATE = 3
"""Exit status of a command that did its work and had to say: nothing can be promised."""

EXTRAS = {
    "jinja2": "train",
    "joblib": "train",
    "matplotlib": "train",
    "pyarrow": "train",
    "sklearn": "train",
    "threadpoolctl": "train",
    "torch": "transformers",
    "transformers": "transformers",
    "vllm": "vllm",
    "skimage": "demo",
}
"""The extra that brings a package, by the name that is imported."""


def stop(message: str) -> NoReturn:
    """Say an error and end with 1."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def no_certificate(why: str) -> NoReturn:
    """Say that nothing can be promised, and end with :data:`NO_CERTIFICATE`."""
    typer.echo(f"no certificate: {why}", err=True)
    raise typer.Exit(NO_CERTIFICATE)


@contextmanager
def told(*more: type[Exception]) -> Iterator[None]:
    """Say an error and end with 1: the gate's own errors, ``more``, and a package of an extra.

    Every command runs inside ``told()``, so only those with more errors write it.
    """
    expected: tuple[type[Exception], ...] = (GateError, *more)
    try:
        yield
    except expected as error:
        stop(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        stop(f"this command needs {package}; install it: pip install 'vlm-gate[{EXTRAS[package]}]'")
