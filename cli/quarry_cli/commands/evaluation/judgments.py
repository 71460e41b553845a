"""`quarry judgments`: judgments that other tools export, as files that Quarry's commands read."""

from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated

import orjson
import typer

from quarry_cli.connection import JsonOption
from quarry_cli.console import count_things, out, print_json, warn
from quarry_cli.failures import CliError, write_text
from quarry_cli.inputs.ratings import import_ratings, read_quepid, read_ubi

app = typer.Typer(no_args_is_help=True, help="Import judgments from other tools.")


class RatingsFormat(StrEnum):
    QUEPID = "quepid"
    UBI = "ubi"


READERS = {RatingsFormat.QUEPID: read_quepid, RatingsFormat.UBI: read_ubi}


@app.callback()
def judgments() -> None:
    """Import judgments from other tools."""


@app.command("import")
def import_judgments(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, show_default=False, help="What the other tool exported."),
    ],
    format: Annotated[RatingsFormat, typer.Option(help="quepid: CSV of a case; ubi: OpenSearch's JSON.")],
    queries: Annotated[Path, typer.Option(dir_okay=False, help="Queries to write, as JSON lines.")],
    qrels: Annotated[Path, typer.Option(dir_okay=False, help="Judgments to write.")],
    relevant_from: Annotated[
        float | None,
        typer.Option(
            help="Grade 1 for a rating of this or more, 0 for any other, such as 1.0; needed where ratings "
            "are no whole numbers."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make files of queries and judgments from Quepid's ratings or OpenSearch's judgments.

    `quarry evaluate`, `mine`, `train`, `tune` and `loop` read what it writes. Ratings are taken as grades,
    and a grade over 0 is relevant. No server is needed.
    """
    _check_apart({"FILE": file, "--queries": queries, "--qrels": qrels})
    found = import_ratings(READERS[format](file), relevant_from)
    if not found.texts:
        raise CliError(f"{file}: holds no rating")
    lines = (orjson.dumps({"_id": id, "text": text}).decode() for id, text in found.texts.items())
    judged = [(id, document, grade) for id, own in found.qrels.items() for document, grade in own.items()]
    for _, document, _ in judged:
        if not document.isprintable():
            raise CliError(f"{file}: no file of judgments can hold the document id {document[:80]!r}")
    rows = [f"{id}\t{document}\t{grade}" for id, document, grade in judged]
    write_text(queries, "".join(f"{line}\n" for line in lines))
    write_text(qrels, "\n".join(["query-id\tcorpus-id\tscore", *rows, ""]))
    relevant = sum(grade > 0 for _, _, grade in judged)
    if found.unrated:
        unrated = count_things(found.unrated, "line has no rating and is", "lines have no rating and are")
        warn(f"{file}: {unrated} left out")
    if not relevant:
        warn(f"{file}: no rating makes a document relevant: a grade over 0 does")
    if json:
        counts = {"queries": len(found.texts), "judgments": len(rows), "relevant": relevant}
        print_json({**counts, "unrated": found.unrated})
    else:
        out.print(
            f"{count_things(len(found.texts), 'query', 'queries')} in {queries}, "
            f"{count_things(len(rows), 'judgment')} in {qrels}, {relevant:,} of them relevant",
            soft_wrap=True,
        )


def _check_apart(paths: dict[str, Path]) -> None:
    """Raises CliError if two names are of one file, which the command would overwrite."""
    for (first, one), (second, other) in combinations(paths.items(), 2):
        if one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other)):
            raise CliError(f"{first} {one} and {second} {other} are one file", "nothing was written")
