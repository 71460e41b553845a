"""The options of TLS, which every command takes that talks to a server.

They are added to the finished commands, by their ``--server``: one place instead of four parameters in each.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from quarry.client import Tls
from quarry.client.addresses import is_unix_address

_chosen: dict[str, Path | bool | None] = {}
"""What the command line that runs has chosen, by the name of the option."""


def read_tls(address: str) -> Tls | None:
    """Reads what was chosen for ``address``; None if that is no TLS, as it always is for a Unix socket.

    Raises ValueError if a certificate comes without a key, or a key without one.
    """
    if not any(_chosen.values()) or is_unix_address(address):
        return None
    ca, certificate, key = (_chosen[name] for name in ("tls_ca", "tls_cert", "tls_key"))
    return Tls(*(path if isinstance(path, Path) else None for path in (ca, certificate, key)))


def add_tls_options(root: TyperGroup) -> None:
    """Adds the options to ``root``, where variables give them too, and to its commands with ``--server``."""
    root.params += _make_options(_choose_in_front)
    for command in _list_commands(root):
        if any("--server" in parameter.opts for parameter in command.params):
            command.params += _make_options(_choose_for_command)


def _choose_in_front(parameter: typer.CallbackParam, value: Any) -> None:
    _chosen[str(parameter.name)] = value


def _choose_for_command(parameter: typer.CallbackParam, value: Any) -> None:
    if value:
        _chosen[str(parameter.name)] = value


def _list_commands(group: TyperGroup) -> Iterator[Any]:
    for command in group.commands.values():
        if isinstance(command, TyperGroup):
            yield from _list_commands(command)
        else:
            yield command


def _make_options(choose: Callable[[typer.CallbackParam, Any], None]) -> list[Any]:
    """Makes the options as typer makes them, of a program that nobody runs."""

    def declare(variable: str, text: str, *flags: str, **more: Any) -> Any:
        in_front = choose is _choose_in_front
        return typer.Option(*flags, callback=choose, envvar=variable if in_front else None, help=text, **more)

    trust = "Speak TLS, and trust the CAs that gRPC comes with, if --tls-ca names none."
    speak = declare("QUARRY_USE_TLS", trust, "--tls")
    ca = declare("QUARRY_TLS_CA", "Speak TLS, and trust the CA in this PEM file.", metavar="FILE")
    show = "Speak TLS, and show the certificate in this PEM file."
    certificate = declare("QUARRY_TLS_CERT", show, metavar="FILE")
    key = declare("QUARRY_TLS_KEY", "The key of --tls-cert, a PEM file.", metavar="FILE")
    program = typer.Typer(add_completion=False)

    @program.command()
    def take(
        tls: Annotated[bool, speak] = False,
        tls_ca: Annotated[Path | None, ca] = None,
        tls_cert: Annotated[Path | None, certificate] = None,
        tls_key: Annotated[Path | None, key] = None,
    ) -> None:
        """Takes the options, which their callback keeps."""

    options = list(get_command(program).params)
    for option in options:
        option.expose_value = False  # the commands' functions do not know them
    return options
