"""`quarry serve` runs the server, whose packages are an extra; `quarry config` prints its settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from quarry.config import Settings
from quarry.config_files import load_settings, write_example, write_settings
from quarry.errors import InvalidArgumentError
from quarry_cli.checks.check import SERVER_EXTRA
from quarry_cli.failures import CliError


def serve(
    data: Annotated[
        Path | None, typer.Option(help="Folder that holds everything. Default: quarry-data")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port to listen on; 0: one that is free. Default: 50051"),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Speak TLS with the certificate, and its chain, in this PEM file."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The key of --tls-cert, which only its owner may read."),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Let in only clients with a certificate of a CA in this PEM file."),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure", help="Listen in plaintext where other machines can read and change everything."
        ),
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Listen on this Unix socket, too, which only this user can open."),
    ] = None,
    accept_loss: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="For one start: go on with a data folder that was refused with DATA_LOSS and this code. "
            "What no database knows is moved to quarantine in the folder.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file of settings.")
    ] = None,
) -> None:
    """Run a server until it is told to stop (SIGTERM or Ctrl-C).

    Prints `quarry: listening on H:P` when it is ready. Options override QUARRY_ variables, and these
    override the file.
    """
    tls = {"certificate": tls_cert, "key": tls_key, "client_ca": tls_client_ca}
    settings = read_settings(
        config,
        data=data,
        host=host,
        port=port,
        tls={name: str(path) for name, path in tls.items() if path is not None} or None,
        insecure=insecure,
        socket=None if socket is None else str(socket),
        accept_loss=accept_loss,
    )
    try:
        from quarry_server.app import serve as run_server
    except ImportError as error:
        raise CliError(
            f"the server's packages are not installed ({error.name} is missing)", SERVER_EXTRA
        ) from None
    try:
        run_server(settings)
    except OSError as error:
        raise CliError(f"the data folder {settings.data} cannot be used: {error}") from None


def read_settings(config: Path | None, **arguments: Any) -> Settings:
    """Reads the settings of a server, as ``load_settings``. Raises CliError."""
    try:
        return load_settings(config, **arguments)
    except InvalidArgumentError as error:
        raise CliError(f"{config or 'settings'}: {error}") from None


def config(
    example: Annotated[
        bool, typer.Option("--example", help="Print a file with every setting, its meaning and its default.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--config", exists=True, dir_okay=False, help="TOML file of settings.")
    ] = None,
) -> None:
    """Print the settings that `quarry serve --config FILE` would start with, or say what is wrong with them.

    `quarry config --example > quarry.toml` makes a file to begin with.
    """
    typer.echo(write_example() if example else write_settings(read_settings(file)), nl=False)
