"""`quarry compare`: which of two runs is better, by how much, and for which queries."""

from pathlib import Path
from typing import Annotated

import ir_measures
import typer

from quarry_cli.connection import JsonOption
from quarry_cli.console import print_json
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import read_measured
from quarry_cli.inputs.run_file import check_judged, check_run, read_run
from quarry_cli.views.comparison import Comparison, compare_runs, show_comparison, to_json
from quarry_cli.views.figures import MEASURES

MEASURE_HINT = "nDCG@10, RR@10, P@5, R@100 and AP are some; ir-measures lists all that there are"
MOST = 2**31 - 1
"""The highest cutoff and the highest grade from which on a document is relevant."""

RunArgument = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, show_default=False, help="A run in TREC's format.")
]


def compare(
    first: RunArgument,
    second: RunArgument,
    qrels: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="BEIR's or TREC's judgments, maybe packed.")
    ],
    queries: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Texts of the judged queries: JSON lines, TREC's topics, or a table.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="As ir-measures names it, such as AP or P@5; the first one decides."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare two runs in TREC's format on the same judgments: SECOND less FIRST.

    Each difference comes with its 95 % interval by paired bootstrap over the judged queries, and with the
    queries that became better and worse. A query that a run lacks counts 0. With --queries, judgments are
    read as `quarry evaluate` reads them: over queries with a text, and a document that is relevant to one of
    two that ask the same counts for both. `quarry evaluate --run-out FILE` writes runs; no
    server is needed here.
    """
    texts, judged, odd = read_measured(queries, qrels)
    runs = read_run(first), read_run(second)
    for path, run in zip((first, second), runs, strict=True):
        check_run(path, run, judged, qrels)
    check_judged(runs, judged, qrels)
    measures = [_parse_measure(name) for name in measure] if measure else MEASURES
    try:
        found: Comparison = compare_runs(*runs, judged, measures)
    except Exception as error:
        names = ", ".join(map(str, measures))
        raise CliError(f"ir-measures cannot compute {names}: {_describe(error)}") from error
    if json:
        print_json({**to_json(found, texts), **odd})
    else:
        show_comparison(found, str(first), str(second), texts)


def _parse_measure(name: str) -> ir_measures.Measure:
    """Parses a measure. Raises CliError for none, and for numbers that crash trec_eval's code."""
    try:
        measure = ir_measures.parse_measure(name)
    except Exception as error:  # the library raises several kinds, which speak of its parser
        raise CliError(f"--measure {name}: there is no such measure", MEASURE_HINT) from error
    for unknown in sorted(measure.params.keys() - measure.SUPPORTED_PARAMS.keys()):
        raise CliError(f"--measure {name}: {measure.NAME} has no parameter {unknown}")
    for parameter in ("cutoff", "rel"):
        value = measure.params.get(parameter, 1)
        if not isinstance(value, int) or not 1 <= value <= MOST:
            raise CliError(f"--measure {name}: {parameter} is a whole number, 1 to {MOST:,}")
    return measure


def _describe(error: Exception) -> str:
    # some say nothing but a value, such as KeyError
    return f"{type(error).__name__}: {error}"
