"""`quarry mine`: hard negatives for judged or clicked queries, into a Parquet file."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from quarry.mining.presets import PRESETS
from quarry.mining.spec import DEFAULT_CLICK_MODEL, DEFAULT_DEPTH, DEFAULT_NEGATIVES, DEFAULT_PRESET
from quarry.v1 import mining_service_pb2 as pb
from quarry_cli.calls.mining import run_mining, write_examples, write_page
from quarry_cli.connection import JsonOption, ServerOption, TimeoutOption, connect
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import read_judged
from quarry_cli.views.mining import ClickModelOption, name_click_model, print_report, show_presets, show_set

NO_DATA = 1
DEFAULT_MODEL = ClickModelOption(DEFAULT_CLICK_MODEL)
QueriesOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="JSON lines, TREC topics, or a table of ids and texts."),
]
QrelsOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="BEIR's or TREC's judgments, maybe packed."),
]


def list_presets(asked: bool) -> None:
    if asked:
        show_presets()
        raise typer.Exit


def mine(
    name: Annotated[str, typer.Argument(help="The collection.", show_default=False)],
    out: Annotated[Path, typer.Option(dir_okay=False, show_default=False, help="Parquet file to write.")],
    preset: Annotated[
        str, typer.Option(help=f"{', '.join(PRESETS)}: --list-presets says what each is for.")
    ] = DEFAULT_PRESET,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="Take queries and positives from clicks, too.")
    ] = False,
    negatives: Annotated[
        int, typer.Option(min=1, max=100, help="For each query and positive.")
    ] = DEFAULT_NEGATIVES,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and data, same negatives.")] = 0,
    members: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Of fused, bm25, dense, lsa, reranker and encoder:MODEL. Default: the preset's.",
        ),
    ] = "",
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A constant of the preset.")
    ] = None,
    depth: Annotated[
        int, typer.Option(min=10, max=1_000, help="Candidates from each member.")
    ] = DEFAULT_DEPTH,
    floor: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least lower bound of a clicked positive's relevance. Default: the noise of the clicks is "
            "estimated, and positives stand out from it.",
        ),
    ] = None,
    model: Annotated[ClickModelOption, typer.Option(help="How clicks are read.")] = DEFAULT_MODEL,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Choose thresholds on audited queries before mining.")
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="QRELS",
            help="All relevant documents of the audited queries. Default: --qrels.",
        ),
    ] = None,
    target: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of false negatives to calibrate for.")
    ] = 0.1,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="HTML", help="Write the report as a page, too.")
    ] = None,
    _list_presets: Annotated[
        bool,
        typer.Option("--list-presets", callback=list_presets, is_eager=True, help="What each preset is for."),
    ] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
) -> None:
    """Mine hard negatives to train a re-ranker on.

    Positives come from judgments (--queries and --qrels), from clicks (--from-feedback), or from both. The
    verdict says whether to train on the set; one is written whatever it says. Status 1 if there is nothing
    to train on (NO_DATA).
    """
    for path in filter(None, (out, report)):
        check_folder(path)
    request = pb.MineHardNegativesRequest(
        collection=name,
        preset=preset,
        negatives=negatives,
        seed=seed,
        members=[member.strip() for member in members.split(",") if member.strip()],
        depth=depth,
        parameters=parse_parameters(parameters or []),
        queries=read_judged_queries(queries, qrels),
    )
    if from_feedback:
        request.feedback.CopyFrom(pb.FeedbackPositives(model=name_click_model(model), floor=floor))
    elif not request.queries:
        raise CliError("there is nothing to mine for", "give --queries and --qrels, --from-feedback, or both")
    if calibrate:
        sample = read_judged_queries(queries, audit or qrels)
        request.calibration.CopyFrom(pb.Calibration(target_false_negatives=target, judgments=sample))
    elif audit:
        raise CliError("--audit is for --calibrate")
    with connect(server, timeout) as quarry:
        made = run_mining(quarry, request)
        write_examples(quarry, made.name, out)
        if report:
            write_page(quarry, made.name, report)
    if json:
        print_report(made, out)
    else:
        show_set(made, out)
    if made.verdict == pb.MINING_VERDICT_NO_DATA:
        raise typer.Exit(NO_DATA)


def check_folder(path: Path) -> None:
    """Raises CliError if ``path`` cannot be written, before minutes are spent on what would go there."""
    folder = path.parent
    if not folder.is_dir():
        raise CliError(f"{path}: there is no folder {folder}", f"mkdir -p {shlex.quote(str(folder))}")
    if not os.access(folder, os.W_OK):
        raise CliError(f"{path}: the folder {folder} cannot be written to")


def read_judged_queries(queries: Path | None, qrels: Path | None) -> list[pb.JudgedQuery]:
    """Reads queries with their judgments.

    None without the files. Raises CliError for one without the other.
    """
    if queries is None and qrels is None:
        return []
    if queries is None or qrels is None:
        raise CliError("--queries and --qrels go together")
    judged = read_judged(queries, qrels)
    return [
        pb.JudgedQuery(
            query_id=id,
            text=text,
            judgments=[pb.Judgment(document_id=d, grade=grade) for d, grade in judged.qrels[id].items()],
        )
        for id, text in judged.texts.items()
    ]


def parse_parameters(given: list[str]) -> dict[str, float]:
    """Parses ``name=value`` of each. Raises CliError for what is none."""
    found: dict[str, float] = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise CliError(f"--set {one}: is not NAME=NUMBER")
    return found
