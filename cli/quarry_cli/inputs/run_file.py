"""Run files in TREC's format: query, Q0, document, rank, score and tag, between white space."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from quarry_cli.failures import CliError, write_text
from quarry_cli.inputs.lines import read_lines

Ranked = dict[str, list[str]]
"""Document ids by query id, best first."""


def read_run(path: Path) -> Ranked:
    """Reads a run: higher scores come first, and equal ones by their rank in the file.

    Raises:
        CliError: a line has other columns, a score or a rank is no number, a query has a document twice, or
            there is no line.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        match line.split():
            case [query, _, document, rank, score, _]:
                place = -_parse(score, "score", where), _parse(rank, "rank", where)
            case columns:
                said = " | ".join(columns)[:80]
                raise CliError(
                    f"{where}: has the columns {said!r}, not query, Q0, document, rank, score, tag"
                )
        if found.setdefault(query, {}).setdefault(document, place) is not place:
            raise CliError(f"{where}: query {query} has document {document} twice")
    if not found:
        raise CliError(f"{path}: holds no run")
    return {query: sorted(places, key=places.__getitem__) for query, places in found.items()}


def check_run(path: Path, run: Ranked, qrels: Mapping[str, object], judgments: Path) -> None:
    """Raises CliError for a run that ranks nothing for any of the judged queries."""
    if not run.keys() & qrels.keys():
        raise CliError(f"{path}: has none of the {len(qrels):,} judged queries of {judgments}")


def check_judged(runs: Iterable[Ranked], qrels: Mapping[str, Mapping[str, int]], judgments: Path) -> None:
    """Raises CliError if no run has any of the judged documents: then their ids are others, and all figures
    would be 0."""
    found = {id for run in runs for ids in run.values() for id in ids}
    judged = {id for grades in qrels.values() for id in grades}
    if found and judged.isdisjoint(found):
        examples = f"judged is {min(judged)!r:.60}, found is {min(found)!r:.60}"
        raise CliError(
            f"{judgments}: none of its {len(judged):,} documents is in a run, so all figures would be 0",
            f"are the ids the same? {examples}",
        )


def write_run(path: Path, run: Mapping[str, Sequence[str]], tag: str) -> None:
    """Writes a run. The scores fall by 1 a rank, so that every tool orders the documents as they are here.

    Raises:
        CliError: an id has white space, which the format cannot hold, or the disk refuses.
    """
    lines = []
    for query, ids in run.items():
        for rank, id in enumerate(ids, 1):
            for name in (query, id):
                if len(name.split()) != 1:
                    raise CliError(
                        f"{path}: a run file cannot hold the id {name[:80]!r}, which has white space"
                    )
            lines.append(f"{query} Q0 {id} {rank} {len(ids) - rank + 1} {tag}\n")
    write_text(path, "".join(lines))


def _parse(text: str, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise CliError(f"{where}: the {what} {text[:20]!r} is no number")
    return value
