"""`quarry doctor`: what is installed, what works, and what to do about the rest."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from quarry_cli.checks.check import Check, CheckState, check_packages, check_python
from quarry_cli.checks.encoder import check_encoder
from quarry_cli.checks.machine import check_cuda, check_data_folder, check_processor, check_server
from quarry_cli.connection import JsonOption, ServerOption
from quarry_cli.console import err, make_plain, out, print_json

STYLES = {CheckState.OK: "green", CheckState.WARN: "yellow", CheckState.FAIL: "bold red"}


def doctor(
    data: Annotated[Path, typer.Option(help="The folder that a server would use.")] = Path("quarry-data"),
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Look at what is installed, which models load, which ports and folders work.

    Exit status 1 if a check fails.
    """
    with err.status("looking"):
        checks = list(run_checks(data, server))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        show_checks(checks)
    if any(check.state is CheckState.FAIL for check in checks):
        raise typer.Exit(1)


def run_checks(data: Path, server: str | None) -> Iterator[Check]:
    yield from check_python()
    yield from check_packages()
    yield from check_encoder(data)
    yield from check_processor()
    yield from check_cuda()
    yield from check_data_folder(data)
    yield from check_server(server)


def show_checks(checks: Iterable[Check]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for check in checks:
        style = STYLES[check.state]
        table.add_row(
            make_plain(check.state, style), make_plain(check.name, "bold"), make_plain(check.detail)
        )
    out.print(table)
