"""`quarry tune`: how a collection's arms are merged, fitted to judged queries or to what people chose."""

from typing import Annotated

import typer

from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_cli.calls.operations import run_operation
from quarry_cli.calls.training import TUNER, describe_progress, promote_ranking
from quarry_cli.commands.mine import QrelsOption, QueriesOption, read_judged_queries
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import make_plain, note, out, print_json
from quarry_cli.failures import CliError
from quarry_cli.views.training import IMPROVED, name_verdict
from quarry_cli.views.tune import print_ranking, read_boosts, show_ranking

FAILED = 1


def tune(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="Learn from what people chose instead.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to what merged the arms before, at once.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote/--no-promote", help="Let it serve at once if it is IMPROVED, without cautions."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts that queries are divided into.")] = 0,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Fit how the arms are merged: their weights, by query, the title's weight and the depth.

    Each part of the queries is held to what was fitted to the others. What is better than what serves, beyond
    chance, serves from then on; every other result changes nothing. Status 1 if there is nothing to fit.
    """
    if rollback:
        if queries or qrels or from_feedback:
            raise CliError("--rollback goes without --queries, --qrels and --from-feedback")
        _roll_back(name, server, timeout, json)
        return
    judged = read_judged_queries(queries, qrels)
    if bool(judged) == from_feedback:
        raise CliError("either --queries and --qrels, or --from-feedback, say what to learn from")
    with connect(server, timeout) as quarry:
        request = pb.TuneRankingRequest(collection=name, judgments=judged, seed=seed)
        operation = quarry.training.TuneRanking(request)
        made = run_operation(quarry, operation, "tuning", describe_progress, models_pb.Ranking())
        proven = name_verdict(made) == IMPROVED and not made.cautions
        if promote and proven and made.state != models_pb.MODEL_STATE_SERVING:
            made = promote_ranking(quarry, made)
        boosts = read_boosts(quarry, name)
    if json:
        print_ranking(made, boosts)
    else:
        show_ranking(made, boosts)
    if not made.name:
        raise typer.Exit(FAILED)


def _roll_back(name: str, server: str | None, timeout: float | None, json: bool) -> None:
    with connect(server, timeout) as quarry:
        request = models_pb.RollbackRankingRequest(collection=name, promoted_by=TUNER)
        answer = quarry.models.RollbackRanking(request)
    if json:
        print_json({"serving": answer.serving, "previous": answer.previous})
        return
    out.print(make_plain(answer.serving or "the defaults", "bold"))
    note(f"{answer.previous or 'the defaults'} no longer merges the arms of {name}")
