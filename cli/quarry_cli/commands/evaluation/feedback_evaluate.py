"""`quarry feedback evaluate`: whether click models foretell clicks, and whether they agree with judges."""

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from quarry.client import Client
from quarry.v1 import mining_service_pb2 as pb
from quarry_cli.commands.mine import QrelsOption, QueriesOption, read_judged_queries
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.console import make_plain, make_progress, note, out, print_json, warn
from quarry_cli.views.mining import ClickModelOption, name_click_model

SHOWN_RANKS = (1, 2, 3, 5, 10)


def evaluate(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    model: Annotated[ClickModelOption | None, typer.Option(help="Default: all.", show_default=False)] = None,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the sessions that models are measured on.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of sessions.")] = 0,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Measure click models on the collection's feedback.

    Two questions, apart: how well a model foretells held-out clicks (log-likelihood: higher is better;
    perplexity: 1 is perfect, 2 a coin), and how often its order of two documents is the judges'.
    """
    judged = read_judged_queries(queries, qrels)
    models = [model] if model else list(ClickModelOption)
    found: dict[str, pb.EstimateRelevanceResponse] = {}
    with connect(server, timeout, default_timeout_s=600) as quarry, make_progress() as bar:
        task = bar.add_task("click models", total=len(models))
        for one in models:
            request = pb.EstimateRelevanceRequest(
                collection=name, model=name_click_model(one), held_out=held_out, judgments=judged, seed=seed
            )
            found[one.value] = _estimate(quarry, request)
            bar.advance(task)
    if json:
        print_json({one: _as_json(response) for one, response in found.items()})
    else:
        _show(found)


def _estimate(quarry: Client, request: pb.EstimateRelevanceRequest) -> pb.EstimateRelevanceResponse:
    return quarry.mining.EstimateRelevance(request)


def _as_json(response: pb.EstimateRelevanceResponse) -> dict[str, Any]:
    return {
        "impressions": response.impressions,
        "clicks": response.clicks,
        "simulated": response.simulated,
        "log_likelihood": response.log_likelihood if response.HasField("log_likelihood") else None,
        "perplexity": {str(one.rank): one.perplexity for one in response.perplexity},
        "agreement": response.agreement if response.HasField("agreement") else None,
        "agreement_pairs": response.agreement_pairs,
        "examination": {str(one.rank): [one.lower, one.value, one.upper] for one in response.examination},
        "notes": list(response.notes),
    }


def _show(found: dict[str, pb.EstimateRelevanceResponse]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model")
    for heading in ("log-likelihood", *(f"perplexity@{rank}" for rank in SHOWN_RANKS), "agreement", "pairs"):
        table.add_column(heading, justify="right")
    for name, response in found.items():
        by_rank = {one.rank: f"{one.perplexity:.3f}" for one in response.perplexity}
        likelihood = f"{response.log_likelihood:.4f}" if response.HasField("log_likelihood") else "-"
        agreement = f"{response.agreement:.1%}" if response.HasField("agreement") else "-"
        perplexities = (by_rank.get(rank, "-") for rank in SHOWN_RANKS)
        table.add_row(make_plain(name), likelihood, *perplexities, agreement, f"{response.agreement_pairs:,}")
    out.print(table)
    first = next(iter(found.values()))
    note(f"{first.impressions:,} impressions, {first.clicks:,} clicks")
    if first.simulated:
        warn("the feedback was made by a program, wholly or in part")
    for name, response in found.items():
        for remark in response.notes:
            note(f"{name}: {remark}")
