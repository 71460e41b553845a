"""Queries and judgments in files, plain or gzipped: BEIR's and TREC's."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from quarry.questions import has_words
from quarry_cli.console import warn
from quarry_cli.failures import CliError
from quarry_cli.inputs.compression import open_unpacked

HEADERS = (
    {"query-id", "query_id", "queryid", "query", "qid", "topic", "topic_id"},
    {"corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "doc", "docno", "document", "document_id", "pid"},
    {"score", "grade", "relevance", "rel", "label", "judgment"},
)
"""What a first line may call the query, the document and the grade."""
QUERY_IDS, QUERY_TEXTS = ("_id", "id", "query_id", "qid"), ("text", "query")
"""Keys of a query's id and text in JSON lines, the first that is there."""
MOST_GRADE = 2**31 - 1
SHOWN = 5

Qrels = dict[str, dict[str, int]]
"""Grade of each judged document, by query id and document id; above 0 is relevant."""


class JudgedQueries(NamedTuple):
    """Judged queries.

    Attributes:
        texts: by id.
        qrels: their judgments, by the same ids.
        left_out: how many are judged and have no text in the file of queries, or one without a word.
    """

    texts: dict[str, str]
    qrels: Qrels
    left_out: int


def read_judged(queries: Path, qrels: Path) -> JudgedQueries:
    """Reads judged queries that have a text. Those that have none are named in a warning.

    Raises:
        CliError: as ``read_qrels`` and ``read_queries``.
    """
    judged = read_qrels(qrels)
    texts = read_queries(queries, set(judged))
    return JudgedQueries(texts, {id: judged[id] for id in texts}, len(judged) - len(texts))


def read_qrels(path: Path) -> Qrels:
    """Reads judgments: query, document and grade, or TREC's four columns (query, iteration, document, grade).

    Columns stand between tabs, or else between white space; a header may come first. Lines that say the same
    twice are named in a warning.

    Raises:
        CliError: a line has other columns, a grade is no whole number, two lines give one document two grades
            for one query, or there is no judgment.
    """
    qrels: Qrels = {}
    lines: dict[tuple[str, str], int] = {}
    repeated: list[int] = []
    first = True
    for number, line in _read_lines(path):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        header, first = first and _is_header(cells), False
        if header:
            continue
        query, document, grade = _parse_judgment(cells, f"{path}:{number}")
        grades = qrels.setdefault(query, {})
        earlier = lines.setdefault((query, document), number)
        if grades.setdefault(document, grade) != grade:
            raise CliError(
                f"{path}:{number}: gives document {document} the grade {grade} for query {query}, and line "
                f"{earlier} gives it {grades[document]}"
            )
        if earlier != number:
            repeated.append(number)
    if not qrels:
        raise CliError(f"{path}: holds no judgments")
    if repeated:
        warn(f"{path}: {len(repeated):,} lines repeat an earlier judgment: {_list_names(map(str, repeated))}")
    return qrels


def read_queries(path: Path, wanted: set[str]) -> dict[str, str]:
    """Reads texts of the wanted queries by id, from JSON lines with ``_id`` and ``text``.

    Wanted queries that are missing, and those without a word, are left out and named in a warning.

    Raises:
        CliError: a line is not a query, an id has two texts, or no wanted query is left.
    """
    queries: dict[str, str] = {}
    for number, line in _read_lines(path):
        id, text = _parse_query(line, f"{path}:{number}")
        if id in wanted and queries.setdefault(id, text) != text:
            raise CliError(f"{path}:{number}: query {id} has another text than before")
    left_out = {
        "that are judged are missing": sorted(wanted - queries.keys()),
        "have no word in their text": sorted(id for id, text in queries.items() if not has_words(text)),
    }
    found = {id: text for id, text in queries.items() if has_words(text)}
    said = [
        f"{path}: {len(ids):,} of {len(wanted):,} queries {what}: {_list_names(ids)}"
        for what, ids in left_out.items()
        if ids
    ]
    if said and not found:
        raise CliError("; ".join(said))
    for one in said:
        warn(f"{one}; the others are used")
    return found


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields lines that are not blank, with their numbers from 1."""
    try:
        with path.open("rb") as raw:
            for number, line in enumerate(open_unpacked(raw), 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: is not UTF-8: {error}") from None
    except (OSError, EOFError) as error:
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _is_header(cells: Sequence[str]) -> bool:
    names = [cell.lower() for cell in ([*cells[:1], *cells[-2:]] if len(cells) == 4 else cells)]
    return len(names) == 3 and all(name in known for name, known in zip(names, HEADERS, strict=True))


def _parse_judgment(cells: Sequence[str], where: str) -> tuple[str, str, int]:
    match cells:
        case [query, document, grade] | [query, _, document, grade] if query and document:
            return query, document, _parse_grade(grade, where)
    raise CliError(
        f"{where}: has the columns {' | '.join(cells)[:80]!r}, not query, document and grade, nor TREC's "
        "query, iteration, document and grade"
    )


def _parse_grade(text: str, where: str) -> int:
    """Parses a whole number, also as ``1.0``. Python's ``float`` takes ``1_0`` for 10, and other digits."""
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        value = float(text)
        grade = int(value)
    except (ValueError, OverflowError):
        raise CliError(f"{where}: the grade {text[:20]!r} is no number") from None
    if grade != value or abs(grade) > MOST_GRADE:
        raise CliError(f"{where}: the grade {text[:20]!r} is no whole number up to {MOST_GRADE:,}")
    return grade


def _parse_query(line: str, where: str) -> tuple[str, str]:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise CliError(f"{where}: is not a JSON object with _id and text")
    id = next((content[key] for key in QUERY_IDS if key in content), None)
    text = next((content[key] for key in QUERY_TEXTS if key in content), None)
    if isinstance(id, bool) or not isinstance(id, str | int) or not isinstance(text, str):
        raise CliError(f"{where}: is not a JSON object with _id and text")
    return str(id), text


def _list_names(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
