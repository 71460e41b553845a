"""The `quarry` command: what it is made of, and how its errors end."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from quarry.client.channel import DEFAULT_ADDRESS
from quarry.errors import QuarryError
from quarry_cli.commands import (
    collection,
    demo,
    doctor,
    documents,
    feedback,
    index,
    loop,
    mine,
    model,
    schema,
    search,
    serve,
    simulate,
    train,
    tune,
)
from quarry_cli.commands.evaluation import compare, evaluate, judgments
from quarry_cli.connection import choose_server
from quarry_cli.console import say
from quarry_cli.failures import CliError, describe
from quarry_cli.tls_options import add_tls_options

INTERRUPTED = 130
"""Exit status by convention: 128 and SIGINT's number."""


class ReadableErrors(TyperGroup):
    """Ends a failed command with one line on stderr and exit status 1, not with a traceback.

    It and its commands that talk to a server take the options of TLS.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        add_tls_options(self)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CliError, QuarryError) as error:
            say(f"quarry: {describe(error)}", "red")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            say("quarry: interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=ReadableErrors,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"quarry {version('quarry-search')}")
        raise typer.Exit


@app.callback()
def quarry(
    _server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="H:P",
            callback=choose_server,
            envvar="QUARRY_SERVER",
            help=f"The server's address, or unix:PATH; commands take it too. Default: {DEFAULT_ADDRESS}",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Quarry: a search stack that learns from its own clicks.

    `quarry demo` shows it at work. `quarry serve --data DIR` starts a server, and `quarry index NAME FILE
    --create` makes a collection of your own file. Commands talk to the server that --server or QUARRY_SERVER
    names.
    """


app.command()(serve.serve)
app.command()(serve.config)
app.add_typer(collection.app, name="collection")
app.command()(index.index)
app.add_typer(schema.app, name="schema")
app.command()(documents.get)
app.command()(documents.delete)
app.add_typer(documents.app, name="document")
app.command()(search.search)
app.command()(search.suggest)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.add_typer(judgments.app, name="judgments")
app.add_typer(feedback.app, name="feedback")
app.command()(simulate.simulate)
app.command()(mine.mine)
app.command()(train.train)
app.command()(tune.tune)
app.command()(loop.loop)
app.add_typer(model.app, name="model")
app.command()(doctor.doctor)
app.command()(demo.demo)

if __name__ == "__main__":
    app()


def run() -> None:
    """Runs what the shell calls. After an interrupt it does not wait for streams that gRPC still reads."""
    try:
        app(prog_name="quarry")
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise
