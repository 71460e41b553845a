"""`quarry evaluate`: how well a collection answers judged queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from quarry.client import Client
from quarry.judgments import describe_disputed, settle_judgments
from quarry.v1 import search_service_pb2
from quarry_cli.calls.runs import Ranked, find_absent_documents, rank_hits, retrieve_runs, search_queries
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import make_progress, note, out, print_json, warn
from quarry_cli.inputs.cascade import CascadeOption, parse_stages
from quarry_cli.inputs.judgments import Qrels, read_judged

if TYPE_CHECKING:
    from quarry_cli.views.figures import Figures

SHOWN_ABSENT = 3
SHOWN_HITS = 10
ECE = "ECE@10"
MISSING, DISPUTED = "missing_queries", "disputed_judgments"
"""In the JSON where they are over 0."""
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
    re-ranker; or those of the cascade that is given here. If the re-ranker is calibrated, ECE@10 says how far
    the relevance of the ten best hits is off, 0 to 1. If judged queries have no text, the JSON has their
    number as missing_queries: two runs are comparable over the same queries only. A document that is relevant
    to one of two queries that ask the same counts for both, and disputed_judgments has the number of these.
    """
    texts, given, left_out = read_judged(queries, qrels)
    judged, disputed = settle_judgments(texts, given)
    for said in describe_disputed(disputed):
        warn(said)
    with connect(server, timeout, default_timeout_s=120) as quarry:
        rerank = search_service_pb2.Rerank(model=model, cascade=parse_stages(cascade or ()))
        answers = make_runs(quarry, name, texts, rerank)
        runs = answers.runs
        absent = find_absent_documents(quarry, name, judged, runs.values())
    results, error = measure_runs(runs, judged), measure_relevance_error(answers.relevance, judged)
    if absent:
        shown = ", ".join(absent[:SHOWN_ABSENT]) + (", ..." if len(absent) > SHOWN_ABSENT else "")
        warn(f"the collection lacks {len(absent):,} documents that are judged relevant: {shown}")
    if json:
        found = {run: dict(result.means) for run, result in results.items()}
        if error is not None:
            found["reranked"][ECE] = error
        counts = {MISSING: left_out, DISPUTED: len(disputed)}
        print_json({**found, **{name: count for name, count in counts.items() if count}})
    else:
        show_figures(results)
        if error is not None:
            note(f"relevance of the ten best hits is off by {error:.3f} on average ({ECE})")


@dataclass(frozen=True, slots=True)
class CollectionRuns:
    """The answers of a collection to many queries.

    Attributes:
        runs: by what answered: each arm, ``fused``, and ``reranked`` if there is a re-ranker.
        relevance: of the ten best re-ranked hits of each query, by id, where it is known.
    """

    runs: dict[str, Ranked]
    relevance: dict[str, dict[str, float]]


def make_runs(
    quarry: Client,
    name: str,
    texts: dict[str, str],
    rerank: search_service_pb2.Rerank = USUAL,
) -> CollectionRuns:
    """Makes the runs of each arm, their fusion, and the re-ranker that ``rerank`` or the collection names."""
    relevance: dict[str, dict[str, float]] = {}
    collection = read_collection(quarry, name)
    with make_progress() as bar:
        runs = retrieve_runs(quarry, name, texts, bar)
        runs["fused"] = rank_hits(search_queries(quarry, name, texts, bar, rerank=FUSED))
        if rerank.model or rerank.cascade or collection.reranker:
            hits = search_queries(quarry, name, texts, bar, rerank=rerank)
            runs["reranked"] = rank_hits(hits)
            relevance = {query: _read_relevance(some[:SHOWN_HITS]) for query, some in hits.items()}
    return CollectionRuns(runs, relevance)


def _read_relevance(hits: Sequence[search_service_pb2.Hit]) -> dict[str, float]:
    return {hit.document.id: hit.relevance for hit in hits if hit.HasField("relevance")}


def measure_relevance_error(relevance: dict[str, dict[str, float]], qrels: Qrels) -> float | None:
    """Measures the expected calibration error of hits' relevance, 0 to 1; None where no hit has one."""
    import numpy as np

    from quarry.models.calibration import ECE_BINS, measure_calibration_error  # as in ``measured``

    pairs = [(query, id, value) for query, some in relevance.items() for id, value in some.items()]
    if not pairs:
        return None
    found = np.array([value for _, _, value in pairs])
    relevant = np.array([qrels[query].get(id, 0) > 0 for query, id, _ in pairs])
    return measure_calibration_error(found, relevant, ECE_BINS)


def measure_runs(runs: dict[str, Ranked], qrels: Qrels) -> "dict[str, Figures]":
    """Measures the figures of each run."""
    # numpy and ir-measures take longer to load than most commands run
    from quarry_cli.views.figures import measure_figures

    return {name: measure_figures(run, qrels) for name, run in runs.items()}


def show_figures(results: "dict[str, Figures]") -> None:
    """Shows a row for each run, the best nDCG@10 in bold."""
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
