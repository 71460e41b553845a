"""Judgments in files, plain or packed: BEIR's and TREC's."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from quarry.judgments import describe_disputed, settle_judgments
from quarry_cli.console import count_things, warn
from quarry_cli.failures import CliError
from quarry_cli.inputs.lines import list_names, read_lines
from quarry_cli.inputs.topics import read_queries

HEADERS = (
    {"query-id", "query_id", "queryid", "query", "qid", "topic", "topic_id"},
    {"corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "doc", "docno", "document", "document_id", "pid"},
    {"score", "grade", "relevance", "rel", "label", "judgment"},
)
"""What a first line may call the query, the document and the grade."""
MOST_GRADE = 2**31 - 1
MISSING, DISPUTED = "missing_queries", "disputed_judgments"
NO_RELEVANT = "queries_without_relevant_documents"
ODDITIES = MISSING, DISPUTED, NO_RELEVANT
"""In the JSON of what measures runs, where they are over 0."""

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


class MeasuredQueries(NamedTuple):
    """Judged queries that runs are measured on.

    Attributes:
        texts: by id; none without a file of queries.
        qrels: their judgments; those of one question do not contradict each other.
        odd: what was left out or settled, by its name in the JSON; nothing that is 0.
    """

    texts: dict[str, str]
    qrels: Qrels
    odd: dict[str, int]


def read_measured(queries: Path | None, qrels: Path) -> MeasuredQueries:
    """Reads judgments to measure runs on, by one rule for all commands that do so.

    With a file of queries, those without a text are left out, and the judgments of one question under several
    ids are settled as ``settle_judgments`` does. Without it nobody knows which ids ask the same, and a
    warning says so.

    Raises:
        CliError: as ``read_judged``, or no query has a relevant document, so that every run would get 0.
    """
    if queries is None:
        warn("without --queries, the judgments of one question under several ids are not joined")
        judged = read_qrels(qrels)
        return MeasuredQueries({}, judged, _keep_counted({NO_RELEVANT: _count_hopeless(judged, qrels)}))
    texts, given, left_out = read_judged(queries, qrels)
    settled, disputed = settle_judgments(texts, given)
    for said in describe_disputed(disputed):
        warn(said)
    odd = {
        MISSING: left_out,
        DISPUTED: len(disputed),
        NO_RELEVANT: _count_hopeless(settled, qrels),
    }
    return MeasuredQueries(texts, settled, _keep_counted(odd))


def _keep_counted(odd: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in odd.items() if count}


def _count_hopeless(qrels: Qrels, path: Path) -> int:
    """Counts queries for which no run can find anything relevant, and warns of them.

    Raises CliError if all are such.
    """
    found = sorted(id for id, grades in qrels.items() if max(grades.values()) <= 0)
    if not found:
        return 0
    said = f"{path}: {len(found):,} of {len(qrels):,} queries have no relevant document and count 0"
    if len(found) == len(qrels):
        raise CliError(said, "a grade over 0 makes a document relevant")
    warn(f"{said}: {list_names(found)}")
    return len(found)


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

    Columns stand between tabs, or else between white space or commas; a header may come first. Lines that say
    the same twice are named in a warning.

    Raises:
        CliError: a line has other columns, a grade is no whole number, two lines give one document two grades
            for one query, or there is no judgment.
    """
    qrels: Qrels = {}
    lines: dict[tuple[str, str], int] = {}
    repeated: list[int] = []
    first = True
    for number, line in read_lines(path):
        cells = _split(line)
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
        lines_repeat = count_things(len(repeated), "line repeats", "lines repeat")
        warn(f"{path}: {lines_repeat} an earlier judgment: {list_names(map(str, repeated))}")
    return qrels


def _split(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    cells = line.split()
    return [cell.strip() for cell in next(csv.reader([line]))] if len(cells) < 3 and "," in line else cells


def _is_header(cells: Sequence[str]) -> bool:
    names = [cell.lower() for cell in ([*cells[:1], *cells[-2:]] if len(cells) == 4 else cells)]
    return len(names) == 3 and all(name in known for name, known in zip(names, HEADERS, strict=True))


def _parse_judgment(cells: Sequence[str], where: str) -> tuple[str, str, int]:
    match cells:
        case [query, document, grade] | [query, _, document, grade] if query and document:
            return query, document, parse_grade(grade, where)
    raise CliError(
        f"{where}: has the columns {' | '.join(cells)[:80]!r}, not query, document and grade, nor TREC's "
        "query, iteration, document and grade"
    )


def parse_grade(text: str, where: str) -> int:
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
