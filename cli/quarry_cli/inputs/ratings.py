"""Judgments that other tools export: Quepid's ratings, and OpenSearch's lists of judgments (UBI)."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from quarry_cli.console import warn
from quarry_cli.failures import CliError
from quarry_cli.inputs.judgments import Qrels, parse_grade
from quarry_cli.inputs.lines import read_all_lines

QUEPID_COLUMNS = ("query", "docid", "rating")
RATINGS, HITS = "judgmentRatings", "hits"


class Rating(NamedTuple):
    """A line of an export.

    Attributes:
        where: the file and the place in it.
        rating: as it is written; empty where nobody has rated.
    """

    where: str
    query: str
    document: str
    rating: str


@dataclass
class ImportedJudgments:
    """Judged queries, which get the ids ``q1``, ``q2``, ... in the order of the file.

    Attributes:
        texts: by query id.
        qrels: by the same ids.
        unrated: lines without a rating, which are left out.
    """

    texts: dict[str, str] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)
    unrated: int = 0


def import_ratings(ratings: Iterator[Rating], relevant_from: float | None) -> ImportedJudgments:
    """Collects ratings by query.

    Args:
        relevant_from: make every rating 1 if it is this or more, else 0; None: a rating is a grade, so it
            must be a whole number.

    Raises:
        CliError: ``relevant_from`` is not finite, a rating is no grade, or has no query or no document,
            or two lines rate one document differently for one query.
    """
    if relevant_from is not None and not math.isfinite(relevant_from):
        raise CliError(f"--relevant-from {relevant_from}: is no finite number")
    found = ImportedJudgments()
    ids: dict[str, str] = {}
    exact: dict[tuple[str, str], Rating] = {}
    for one in ratings:
        if not one.rating:
            found.unrated += 1
            continue
        for what, value in (("query", one.query), ("document", one.document)):
            if not value:
                raise CliError(f"{one.where}: the rating {one.rating[:20]!r} has no {what}")
        grade = _make_grade(one, relevant_from)
        earlier = exact.setdefault((one.query, one.document), one)
        if float(earlier.rating) != float(one.rating):
            raise CliError(
                f"{one.where}: rates document {one.document} for {one.query[:80]!r} as {one.rating}, and "
                f"{earlier.where} as {earlier.rating}"
            )
        id = ids.setdefault(one.query, f"q{len(ids) + 1}")
        found.texts[id] = one.query
        found.qrels.setdefault(id, {})[one.document] = grade
    return found


def read_quepid(path: Path) -> Iterator[Rating]:
    """Reads the CSV that Quepid exports of a case as "Basic": query, docid and rating.

    Raises CliError if the first line has other columns, or the file is no CSV.
    """
    rows = csv.reader((f"{line}\n" for _, line in read_all_lines(path)), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if sorted(header) != sorted(QUEPID_COLUMNS):
            raise CliError(
                f"{path}: has the columns {', '.join(header)[:80]!r}, not {', '.join(QUEPID_COLUMNS)}",
                "export the case's ratings as Basic, in CSV",
            )
        places = [header.index(name) for name in QUEPID_COLUMNS]
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = [row[place].strip() if place < len(row) else "" for place in places]
                if len(row) > len(QUEPID_COLUMNS):
                    raise CliError(f"{path}:{rows.line_num}: has {len(row)} columns: quote texts with commas")
                yield Rating(f"{path}:{rows.line_num}", _strip_guard(cells[0]), cells[1], cells[2])
    except csv.Error as error:
        raise CliError(f"{path}:{rows.line_num}: is not CSV: {error}") from None


def _strip_guard(query: str) -> str:
    """Takes off the quote by which an export keeps spreadsheets from running a text as a formula."""
    return query[1:] if query[:1] == "'" and query[1:2] in tuple("-=+@") else query


def read_ubi(path: Path) -> Iterator[Rating]:
    """Reads judgments as OpenSearch's Search Relevance Workbench has them: objects with ``judgmentRatings``,
    as they are imported, exported (one a line), or answered by its API.

    Raises CliError if there is no such object.
    """
    content = "\n".join(line for _, line in read_all_lines(path))
    objects = [content] if _is_json(content) else content.splitlines()
    read = 0
    for number, text in enumerate(objects, 1):
        if not text.strip():
            continue
        value = _load(text, f"{path}:{number}")
        _warn_of_cut_answer(value, f"{path}:{number}")
        for list_of_ratings in _find_lists(value):
            read += 1
            yield from _read_list(list_of_ratings, f"{path}:{number}")
    if not read:
        raise CliError(f"{path}: holds no object with {RATINGS}")


def _is_json(content: str) -> bool:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True


def _load(text: str, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CliError(f"{where}: is not JSON: {error}") from None


def _find_lists(value: Any) -> Iterator[Any]:
    """Finds ``judgmentRatings`` in a list of judgments, in a document of the index, or in an answer."""
    if isinstance(value, list):
        for one in value:
            yield from _find_lists(one)
    elif isinstance(value, Mapping):
        if RATINGS in value:
            yield value[RATINGS]
        for name in ("_source", HITS):
            yield from _find_lists(value.get(name))


def _warn_of_cut_answer(value: Any, where: str) -> None:
    """Says in a warning if a search found more than its answer lists. OpenSearch lists 10 by default."""
    match value:
        case {"hits": {"total": {"value": int(total)} | int(total), "hits": list(hits)}} if total > len(hits):
            warn(f"{where}: lists {len(hits):,} of {total:,} lists of judgments, and the others are not read")


def _read_list(queries: Any, where: str) -> Iterator[Rating]:
    for query in queries if isinstance(queries, list) else [queries]:
        match query:
            case {"query": str(text), "ratings": list(ratings)}:
                for one in ratings:
                    match one:
                        case {"docId": str() | int() as id, "rating": str() | int() | float() as rating}:
                            yield Rating(where, text.strip(), str(id), str(rating).strip())
                        case _:
                            raise CliError(f"{where}: a rating of {text[:80]!r} has no docId or no rating")
            case _:
                raise CliError(f"{where}: an entry of {RATINGS} has no query or no ratings")


def _make_grade(one: Rating, relevant_from: float | None) -> int:
    if relevant_from is None:
        try:
            return parse_grade(one.rating, one.where)
        except CliError as error:
            raise CliError(str(error), "--relevant-from VALUE makes grades of such ratings") from None
    try:
        value = float(one.rating)
    except ValueError:
        raise CliError(f"{one.where}: the rating {one.rating[:20]!r} is no number") from None
    if not math.isfinite(value):
        raise CliError(f"{one.where}: the rating {one.rating[:20]!r} is no number")
    return int(value >= relevant_from)
