"""The command line: ``vlm-gate serve``, ``vlm-gate ask``, and what the offline path adds.

Every command imports what it runs on when it runs: ``vlm-gate --help`` loads none of it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from service.cli import bundle, collect, keys, policy, recertify, records, reproduce, site, train
from service.cli.told import stop, told

OLD_WORDS = {
    ("certify", "--from-records"): "recertify",
    ("reproduce", "--merge"): "merge-reproductions",
}
"""A command and the option that made another one of it, and the name of that one."""


class Commands(TyperGroup):
    """The commands: each says an error that its user can mend in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words of a call; old ones are read as what replaced them."""
        for (command, option), now in OLD_WORDS.items():
            if args[:1] == [command] and option in args:
                args = [now, *(word for word in args[1:] if word != option)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with told():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def serve() -> None:
    """Run the service. Settings come from VLM_GATE_* (docs/settings.md)."""
    from probes.model.folder import read_bundle
    from service.app import create_app
    from service.engines.base import EngineError
    from service.engines.build import serving_engine
    from service.http.server import Server, bind
    from service.observe import logs
    from service.observe.metrics_port import metrics_port
    from service.records.errors import RecordsError
    from service.settings import SettingsError, load_settings

    with told(SettingsError, EngineError, RecordsError):
        settings = load_settings()
        logs.configure(settings.log_level)
        listening = bind(settings)
        bundle = read_bundle(settings.bundle)
        engine = serving_engine(settings, bundle)
        service = create_app(settings, engine, bundle)
    host, port = listening.getsockname()[:2]
    typer.echo(f"listening on http://{host}:{port} once the model is loaded", err=True)
    server = Server(service, settings)
    # What stops the start is told in one line below, not as a traceback.
    logging.getLogger("uvicorn.error").addFilter(lambda r: not r.getMessage().startswith("Trace"))
    try:
        with told(SettingsError), metrics_port(settings, service.state.telemetry.registry):
            server.run(sockets=[listening])
    except SystemExit:
        stop(service.state.gate.why)
    if server.engine_lost:
        stop("the engine has failed; the log says why")


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
    from service.client import Client, ClientError

    with told(ClientError), Client(url, api_key=key, tries=3) as client:
        answered = client.answer(image, question)
    _print_answer(answered.model_dump())


@app.command()
def demo() -> None:
    """Start a service, ask about held-out line images and photographs, print a table, stop."""
    from service.client import ClientError
    from service.offline.demo import run_demo
    from service.offline.own_service import LocalServiceError

    with told(LocalServiceError, ClientError):
        run_demo()


@app.command()
def bench(
    answers: Annotated[int, typer.Option(help="answers per load", min=16)] = 200,
) -> None:
    """Measure a service of its own over HTTP, and what the signals cost the engine."""
    import httpx

    from service.offline.bench import print_bench, run_bench
    from service.offline.own_service import LocalServiceError

    with told(LocalServiceError, httpx.HTTPError):
        print_bench(*run_bench(answers))


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


for module in (collect, train, recertify, bundle, policy, reproduce, keys, records, site):
    module.register(app)
