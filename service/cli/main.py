"""The command line: ``vlm-gate serve``, ``vlm-gate ask``, and what the offline path adds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.table import Table

from service.cli import keys, records, reproduce, site, train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for module in (train, reproduce, keys, records, site):
    module.register(app)


def _stop(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


@app.command()
def serve() -> None:
    """Run the service. Settings come from VLM_GATE_* (docs/settings.md)."""
    from probes.errors import GateError
    from probes.model.folder import read_bundle
    from service.app import create_app
    from service.engines.base import EngineError
    from service.engines.build import serving_engine
    from service.http.server import Server, bind
    from service.observe import logs
    from service.observe.metrics_port import metrics_port
    from service.records.errors import RecordsError
    from service.settings import SettingsError, load_settings

    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        listening = bind(settings)
        bundle = read_bundle(settings.bundle)
        engine = serving_engine(settings, bundle)
        service = create_app(settings, engine, bundle)
    except (SettingsError, GateError, EngineError, RecordsError) as error:
        _stop(str(error))
    host, port = listening.getsockname()[:2]
    typer.echo(f"listening on http://{host}:{port} once the model is loaded", err=True)
    server = Server(service, settings)
    # What stops the start is told in one line below, not as a traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda r: not r.getMessage().startswith("Trace"))
    try:
        with metrics_port(settings, service.state.gate.telemetry.registry):
            server.run(sockets=[listening])
    except SettingsError as error:
        _stop(str(error))
    except SystemExit:
        _stop(service.state.gate.why)
    if server.engine_lost:
        _stop("the engine has failed; the log says why")


@app.command()
def ask(
    image: Annotated[Path, typer.Argument(help="image file", exists=True, dir_okay=False)],
    question: Annotated[str, typer.Argument(help="what to ask about it")],
    url: Annotated[str, typer.Option(help="where the service listens")] = "http://127.0.0.1:8080",
    key: Annotated[
        str | None, typer.Option(envvar="GATE_API_KEY", help="where the service wants one")
    ] = None,
) -> None:
    """Ask a running service about an image."""
    from service.client import Client
    from service.client.retry import ClientError

    try:
        with Client(url, api_key=key, tries=3) as client:
            answered = client.answer(image, question)
    except ClientError as error:
        _stop(str(error))
    _print_answer(answered.model_dump())


@app.command()
def demo() -> None:
    """Start a service, ask about held-out line images and photographs, print a table, stop."""
    from service.client.retry import ClientError
    from service.offline.demo import run_demo
    from service.offline.own_service import LocalServiceError

    try:
        run_demo()
    except (LocalServiceError, ClientError) as error:
        _stop(str(error))


@app.command()
def bench(
    answers: Annotated[int, typer.Option(help="answers per load", min=16)] = 200,
) -> None:
    """Measure a service of its own over HTTP, and what the signals cost the engine."""
    from service.offline.bench import print_bench, run_bench
    from service.offline.own_service import LocalServiceError

    try:
        print_bench(*run_bench(answers))
    except (LocalServiceError, httpx.HTTPError) as error:
        _stop(str(error))


def _print_answer(body: dict[str, Any]) -> None:
    risk, certificate = body["risk"], body["certificate"]
    score = f"none ({risk['status']})" if risk["score"] is None else f"{risk['score']:.3f}"
    limit = risk["accept_below"]
    promise = (
        f"none ({certificate['missing']})"
        if "missing" in certificate
        else f"{certificate['id']}: at most {certificate['alpha']:.0%} of accepted answers wrong, "
        f"confidence {1 - certificate['delta']:.0%}"
    )
    table = Table(show_header=False, box=None)
    table.add_row("answer", body["answer"])
    bound = "nothing is accepted" if limit is None else f"accepted up to {limit:.3f}"
    table.add_row("risk", f"{score} ({bound})")
    table.add_row("decision", body["decision"])
    table.add_row("reason", body["reason"].replace("_", " "))
    table.add_row("certificate", promise)
    if body["mode"] == "shadow":
        table.add_row("mode", "shadow: do not act on this decision")
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
