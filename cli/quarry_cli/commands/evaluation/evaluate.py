"""`quarry evaluate`: how well a collection answers judged queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from quarry.client import Client
from quarry.v1 import search_service_pb2
from quarry_cli.calls.judged import (
    ABSENT,
    check_judged_documents,
    count_judgments,
    find_absent_documents,
    warn_of_absent_documents,
)
from quarry_cli.calls.runs import rank_hits, retrieve_runs, search_queries
from quarry_cli.commands.evaluation.run_out import check_run_outs, parse_run_outs, write_run_outs
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect, read_collection
from quarry_cli.console import count_things, make_plain, make_progress, note, out, print_json
from quarry_cli.failures import CliError
from quarry_cli.inputs.cascade import CascadeOption, parse_stages
from quarry_cli.inputs.judgments import ODDITIES, Qrels, read_measured
from quarry_cli.inputs.run_file import Ranked, check_judged, check_run, read_run

if TYPE_CHECKING:
    from quarry_cli.views.figures import Figures

SHOWN_HITS = 10
ECE = "ECE@10"
INTERVALS, JUDGED, COUNTS = "intervals", "judged_at_10", "counts"
KEYS = frozenset((INTERVALS, JUDGED, COUNTS, *ODDITIES))
"""Keys of the JSON beside those of runs."""
USUAL, FUSED = search_service_pb2.Rerank(), search_service_pb2.Rerank(disabled=True)


def evaluate(
    qrels: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="BEIR's or TREC's judgments, maybe packed.")
    ],
    name: Annotated[
        str, typer.Argument(help="The collection; with --run alone none is asked.", show_default=False)
    ] = "",
    queries: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Queries to ask; needed with a collection: JSON lines, TREC's topics, or a table of ids and "
            "texts.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="VERSION", help="Re-ranker to measure instead of the collection's, as faq@3."),
    ] = "",
    cascade: CascadeOption = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Measure this run, in TREC's format, as well."),
    ] = None,
    run_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[RUN=]FILE", help="Write a run, such as bm25=FILE. Default: what searches give."
        ),
    ] = None,
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

    The JSON also has the 95 % intervals, the judged share of the ten best hits, and what was counted.
    Status 1 if the collection has none of the judged documents.
    """
    if not name and not run:
        raise CliError("there is nothing to measure", "give a collection, or --run FILE")
    if name and queries is None:
        raise CliError("--queries says what to ask the collection, so it is needed")
    if not name and (run_out or model or cascade):
        raise CliError("--run-out, --model and --cascade are for a collection")
    wanted = parse_run_outs(run_out or ())
    texts, judged, odd = read_measured(queries, qrels)
    runs = {str(path): read_run(path) for path in run or ()}
    for path, read in runs.items():
        check_run(Path(path), read, judged, qrels)
    check_judged(runs.values(), judged, qrels)
    relevance: dict[str, dict[str, float]] = {}
    made: dict[str, Ranked] = {}
    counts = count_judgments(judged)
    if name:
        with connect(server, timeout, default_timeout_s=120) as quarry:
            check_judged_documents(quarry, name, judged)
            rerank = search_service_pb2.Rerank(model=model, cascade=parse_stages(cascade or ()))
            if any(one.run for one in wanted):
                check_run_outs(wanted, list_runs(quarry, name, texts, rerank))
            answers = make_runs(quarry, name, texts, rerank)
            relevance = answers.relevance
            absent = find_absent_documents(quarry, name, judged, answers.runs.values())
        warn_of_absent_documents(absent, judged)
        counts[ABSENT] = len(absent)
        made = answers.runs
    runs = merge_runs(made, runs)
    results, error = measure_runs(runs, judged), measure_relevance_error(relevance, judged)
    if json:
        found: dict[str, Any] = {run: dict(result.means) for run, result in results.items()}
        if error is not None:
            found["reranked"][ECE] = error
        print_json({**found, **odd, **_describe_results(results, counts)})
    else:
        show_figures(results)
        if error is not None:
            note(f"relevance of the ten best hits is off by {error:.3f} on average ({ECE})")
    write_run_outs(wanted, made)


def _describe_results(results: "dict[str, Figures]", counts: dict[str, int]) -> dict[str, Any]:
    """Describes for the JSON how sure the figures are, and what was counted."""
    return {
        INTERVALS: {
            run: {measure: list(one) for measure, one in result.intervals.items()}
            for run, result in results.items()
        },
        JUDGED: {run: result.judged_share for run, result in results.items()},
        COUNTS: counts,
    }


def merge_runs(made: Mapping[str, Ranked], given: Mapping[str, Ranked]) -> dict[str, Ranked]:
    """Puts the runs of files behind those of the collection, with ``run:`` before a file's name that is
    the name of another run or a key of the JSON."""
    found = dict(made)
    for name, run in given.items():
        free = name
        while free in found or free in KEYS or (free != name and free in given):
            free = f"run:{free}"
        found[free] = run
    return found


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
    reranked = is_reranked(quarry, name, rerank)
    with make_progress() as bar:
        runs = retrieve_runs(quarry, name, texts, bar)
        runs["fused"] = rank_hits(search_queries(quarry, name, texts, bar, rerank=FUSED))
        if reranked:
            hits = search_queries(quarry, name, texts, bar, rerank=rerank)
            runs["reranked"] = rank_hits(hits)
            relevance = {query: _read_relevance(some[:SHOWN_HITS]) for query, some in hits.items()}
    return CollectionRuns(runs, relevance)


def list_runs(
    quarry: Client, name: str, texts: Mapping[str, str], rerank: search_service_pb2.Rerank
) -> list[str]:
    """Lists the runs that ``make_runs`` makes, by asking the arms one of the queries."""
    first = dict([next(iter(texts.items()))])
    with make_progress() as bar:
        arms = retrieve_runs(quarry, name, first, bar)
    return [*arms, "fused", *(["reranked"] if is_reranked(quarry, name, rerank) else [])]


def is_reranked(quarry: Client, name: str, rerank: search_service_pb2.Rerank) -> bool:
    return bool(rerank.model or rerank.cascade or read_collection(quarry, name).reranker)


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
    from quarry_cli.views.figures import LOW_JUDGED

    first = next(iter(results.values()))
    best = max(result.means["nDCG@10"] for result in results.values())
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for measure in first.means:
        table.add_column(measure, justify="right")
        if measure == "nDCG@10":
            table.add_column("95 % interval", justify="center", style="dim")
    table.add_column("judged", justify="right", style="dim")
    for name, result in results.items():
        style = "bold" if result.means["nDCG@10"] == best else ""
        ndcg, *others = (f"{value:.3f}" for value in result.means.values())
        low, high = result.intervals["nDCG@10"]
        judged = "-" if result.judged_share is None else f"{result.judged_share:.0%}"
        table.add_row(make_plain(name), ndcg, f"{low:.3f} to {high:.3f}", *others, judged, style=style)
    out.print(table)
    queries = count_things(first.queries, "query", "queries")
    note(f"{queries}; interval by bootstrap over queries; judged: share of the ten best hits")
    if any(
        result.judged_share is not None and result.judged_share < LOW_JUDGED for result in results.values()
    ):
        note("hits without a judgment count as not relevant, so figures of little judged runs are too low")
