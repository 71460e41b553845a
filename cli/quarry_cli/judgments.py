"""Queries and judgments in files, plain or gzipped: BEIR's and TREC's."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from quarry_cli.failures import CliError
from quarry_cli.records import open_maybe_gzipped

BEIR_HEADER = ["query-id", "corpus-id", "score"]

Qrels = dict[str, dict[str, int]]
"""Relevance of each judged document, by query id and document id; above 0 is relevant."""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as raw:
            for number, line in enumerate(open_maybe_gzipped(raw), 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if text.strip():
                    yield number, text
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_qrels(path: Path) -> Qrels:
    """Judgments: BEIR's three columns under a header, or TREC's four (query, iteration, document, score).

    Raises:
        CliError: a line has other columns, a score is no whole number, or there is no judgment.
    """
    qrels: Qrels = {}
    for number, line in _lines(path):
        cells = line.split("\t") if "\t" in line else line.split()
        if cells == BEIR_HEADER:
            continue
        try:
            query, document, score = _judgment(cells)
        except ValueError:
            raise CliError(
                f"{path}:{number}: is neither `query-id, corpus-id, score` nor TREC's four columns"
            ) from None
        qrels.setdefault(query, {})[document] = score
    if not qrels:
        raise CliError(f"{path}: holds no judgments")
    return qrels


def _judgment(cells: list[str]) -> tuple[str, str, int]:
    match [cell.strip() for cell in cells]:
        case [query, document, score] | [query, _, document, score]:
            return query, document, int(score)
    raise ValueError


def read_queries(path: Path, wanted: set[str]) -> dict[str, str]:
    """Texts of the wanted queries by id, from JSON lines with ``_id`` and ``text``.

    Raises:
        CliError: a line is not a query, or a wanted one is missing or empty.
    """
    queries: dict[str, str] = {}
    for number, line in _lines(path):
        try:
            content = orjson.loads(line)
            id, text = str(content["_id"]), content["text"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise CliError(f"{path}:{number}: is not a JSON object with _id and text") from None
        if id in wanted:
            if not isinstance(text, str) or not text.strip():
                raise CliError(f"{path}:{number}: the text of query {id} is empty")
            queries[id] = text
    missing = sorted(wanted - queries.keys())
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise CliError(f"{path}: lacks {len(missing):,} of {len(wanted):,} judged queries: {shown}")
    return queries
