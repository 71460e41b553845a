"""`quarry loop`: turn by turn, what people choose becomes a better re-ranker."""

import time
from pathlib import Path
from typing import Annotated

import typer

from quarry.client import Client, QuarryCallError
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.loop import run_turn, write_page
from quarry_cli.commands.mine import QrelsOption, QueriesOption, check_folder, read_judged_queries
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import note, say
from quarry_cli.failures import CliError, describe
from quarry_cli.views.loop import print_report, show_report

CALL_S = 120.0
DEFAULT_EVERY_MINUTES = 10.0
_MINUTE_S = 60.0


def loop(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="One turn now, and no more.")] = False,
    every: Annotated[
        float, typer.Option(min=0.01, metavar="MINUTES", help="Between two looks at what is new.")
    ] = DEFAULT_EVERY_MINUTES,
    min_new_choices: Annotated[
        int | None, typer.Option(min=1, help="Choices that make a turn worth while. Default: the server's.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the first turn, however few choices are new.")
    ] = False,
    steps: Annotated[int, typer.Option(min=0, max=1_000_000, help="As of `quarry train`.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(min=16, help="As of `quarry train`.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="As of `quarry mine` and `quarry train`.")] = 0,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="HTML", help="Write each turn's report as a page.")
    ] = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Learn from clicks: mine, train, compare with what serves, and report, whenever enough is new.

    Whether a better model serves at once is the collection's policy, or the server's (`quarry collection
    update --promotion`). Without --queries and --qrels clicks decide which is better. It goes on until
    Ctrl-C; with --once, status 1 if the turn fails, and 0 whatever came of it otherwise.
    """
    if report:
        check_folder(report)
    request = pb.RunLoopRequest(
        collection=name,
        min_new_choices=min_new_choices,
        force=force,
        steps=steps,
        max_tokens=max_tokens or 0,
        seed=seed,
        judgments=read_judged_queries(queries, qrels),
    )
    with connect(server, timeout, default_timeout_s=CALL_S) as quarry:
        if once:
            _turn(quarry, request, report, json)
            return
        read_collection(quarry, name)
        while True:
            try:
                _turn(quarry, request, report, json)
            except (CliError, QuarryCallError) as error:
                say(f"quarry: {describe(error)}", "red")
            request.force = False
            note(f"looking again in {every:g} minutes; Ctrl-C ends")
            time.sleep(every * _MINUTE_S)


def _turn(quarry: Client, request: pb.RunLoopRequest, page: Path | None, json: bool) -> None:
    made = run_turn(quarry, request)
    if page and made.name:
        write_page(quarry, made.name, page)
    if json:
        print_report(made)
    else:
        show_report(made)
