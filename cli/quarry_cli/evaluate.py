"""`quarry evaluate`: how well a collection answers judged queries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from quarry.v1 import search_service_pb2
from quarry_cli.cascade import CascadeOption, parse_stages
from quarry_cli.connection import Connection, JsonOption, ServerOption, TimeoutOption, collection_of, connect
from quarry_cli.console import note, out, print_json, progress, warn
from quarry_cli.judgments import Qrels, read_judged
from quarry_cli.runs import Ranked, absent_documents, arm_runs, search_run

if TYPE_CHECKING:
    from quarry_cli.figures import Figures

SHOWN_ABSENT = 3
USUAL, FUSED = search_service_pb2.Rerank(), search_service_pb2.Rerank(disabled=True)


def evaluate(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    queries: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="JSON lines with _id and text, maybe gzipped.")
    ],
    qrels: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="BEIR's or TREC's judgments, maybe gzipped.")
    ],
    model: Annotated[
        str,
        typer.Option(metavar="VERSION", help="Re-ranker to measure instead of the collection's, as faq@3."),
    ] = "",
    cascade: CascadeOption = None,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a collection on judged queries: each arm, their fusion, and the re-ranker if there is one.

    nDCG@10, RR@3, RR@10 and R@100, averaged over all judged queries with a text. The re-ranked run is what
    searches give: those of the collection's cascade, if it has one, in which VERSION takes the place of its
    re-ranker; or those of the cascade that is given here.
    """
    texts, judged = read_judged(queries, qrels)
    with connect(server, timeout, default_timeout_s=120) as quarry:
        rerank = search_service_pb2.Rerank(model=model, cascade=parse_stages(cascade or ()))
        runs = all_runs(quarry, name, texts, rerank)
        absent = absent_documents(quarry, name, judged, runs.values())
    results = measured(runs, judged)
    if absent:
        shown = ", ".join(absent[:SHOWN_ABSENT]) + (", ..." if len(absent) > SHOWN_ABSENT else "")
        warn(f"the collection lacks {len(absent):,} documents that are judged relevant: {shown}")
    if json:
        print_json({run: result.means for run, result in results.items()})
    else:
        show_figures(results)


def all_runs(
    quarry: Connection,
    name: str,
    texts: dict[str, str],
    rerank: search_service_pb2.Rerank = USUAL,
) -> dict[str, Ranked]:
    """Runs by what answered: each arm, ``fused``, and ``reranked`` as ``rerank`` or the collection says."""
    collection = collection_of(quarry, name)
    with progress() as bar:
        runs = arm_runs(quarry, name, texts, bar)
        runs["fused"] = search_run(quarry, name, texts, bar, rerank=FUSED)
        if rerank.model or rerank.cascade or collection.reranker:
            runs["reranked"] = search_run(quarry, name, texts, bar, rerank=rerank)
    return runs


def measured(runs: dict[str, Ranked], qrels: Qrels) -> "dict[str, Figures]":
    """Figures of each run."""
    from quarry_cli.figures import figures  # numpy and ir-measures take longer to load than most commands run

    return {name: figures(run, qrels) for name, run in runs.items()}


def show_figures(results: "dict[str, Figures]") -> None:
    """A row for each run, the best nDCG@10 in bold."""
    first = next(iter(results.values()))
    best = max(result.means["nDCG@10"] for result in results.values())
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for measure in first.means:
        table.add_column(measure, justify="right")
        if measure == "nDCG@10":
            table.add_column("95 % interval", justify="center", style="dim")
    for name, result in results.items():
        style = "bold" if result.means["nDCG@10"] == best else ""
        ndcg, *others = (f"{value:.3f}" for value in result.means.values())
        low, high = result.ndcg_interval
        table.add_row(name, ndcg, f"{low:.3f} to {high:.3f}", *others, style=style)
    out.print(table)
    note(f"{first.queries:,} queries; interval by bootstrap over queries")
