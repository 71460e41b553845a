"""Texts of queries in files: BEIR's JSON lines, TREC's topics, and tables of ids and texts."""

import csv
import html
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import orjson

from quarry.questions import has_words
from quarry_cli.console import warn
from quarry_cli.failures import CliError
from quarry_cli.inputs.lines import list_names, read_all_lines, read_lines

JSON_IDS, JSON_TEXTS = ("_id", "id", "query_id", "qid"), ("text", "query")
"""Keys of a query's id and text in JSON lines, the first that is there."""
ID_COLUMNS = ("_id", "id", "query_id", "query-id", "qid", "topic", "topic_id", "number")
TEXT_COLUMNS = ("text", "query", "query_text", "title", "question")
"""What the first line of a table may call the id and the text, the first that is there."""
TOP = re.compile(r"<top>(.*?)</top>|<topic\b([^>]*)>(.*?)</topic>", re.DOTALL | re.IGNORECASE)
TOP_BEGIN = re.compile(r"<top>|<topic\b", re.IGNORECASE)
TOP_ID = re.compile(r"<num>\s*(?:number\s*:)?\s*([^\s<]+)", re.IGNORECASE)
TAGS = (
    "num|title|query|question|desc|description|narr|narrative|smry|con|fac|def|dom|nat|head|time|date|"
    "querytweettime|querytime|subtopic|source"
)
TOP_TEXT = re.compile(
    rf"<(?:title|query)>\s*(?:topic\s*:)?(.*?)(?=</?(?:{TAGS})\b[^<>]*>|\n\s*</?[a-z]|\Z)",
    re.DOTALL | re.IGNORECASE,
)
"""Up to a tag that topics have, or a line that begins with any tag: a ``<`` alone belongs to the text."""
TOPIC_ID = re.compile(r"\bnumber\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)

Lines = Iterable[tuple[int, str]]


class Topic(NamedTuple):
    """A query of a file.

    Attributes:
        line: its number, from 1.
    """

    line: int
    id: str
    text: str


def read_queries(path: Path, wanted: set[str]) -> dict[str, str]:
    """Reads texts of the wanted queries by id, in any of the formats that docs/reference/file-formats.md
    names.

    Wanted queries that are missing, and those without a word, are left out and named in a warning.

    Raises:
        CliError: a line is not a query, an id has two texts, or no wanted query is left.
    """
    queries: dict[str, str] = {}
    for number, id, text in read_topics(path):
        if id in wanted and queries.setdefault(id, text) != text:
            raise CliError(f"{path}:{number}: query {id} has another text than before")
    left_out = {
        "that are judged are missing": sorted(wanted - queries.keys()),
        "have no word in their text": sorted(id for id, text in queries.items() if not has_words(text)),
    }
    found = {id: text for id, text in queries.items() if has_words(text)}
    said = [
        f"{path}: {len(ids):,} of {len(wanted):,} queries {what}: {list_names(ids)}"
        for what, ids in left_out.items()
        if ids
    ]
    if said and not found:
        raise CliError("; ".join(said))
    for one in said:
        warn(f"{one}; the others are used")
    return found


def read_topics(path: Path) -> Iterator[Topic]:
    """Yields the queries of a file, whose first line tells its format. Raises CliError."""
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        return
    begin = first[1].lstrip()[:1]
    if begin == "<":
        yield from _read_trec(path, read_all_lines(path))
    elif begin in ("{", "["):
        yield from _read_json(path, chain([first], lines))
    else:
        yield from _read_table(path, read_all_lines(path), "\t" if "\t" in first[1] else ",")


def _read_json(path: Path, lines: Lines) -> Iterator[Topic]:
    for number, line in lines:
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError:
            content = None
        content = content if isinstance(content, dict) else {}
        id = next((content[key] for key in JSON_IDS if key in content), None)
        text = next((content[key] for key in JSON_TEXTS if key in content), None)
        if isinstance(id, bool) or not isinstance(id, str | int) or not isinstance(text, str):
            raise CliError(f"{path}:{number}: is not a JSON object with _id and text")
        yield Topic(number, str(id), text)


def _read_trec(path: Path, lines: Lines) -> Iterator[Topic]:
    content = "\n".join(line for _, line in lines)
    topics = list(TOP.finditer(content))
    if not topics:
        raise CliError(f"{path}: begins like TREC's topics, and holds no <top> ... </top>")
    _check_ends(path, content, topics)
    for found in topics:
        number = content.count("\n", 0, found.start()) + 1
        body = found[1] if found[1] is not None else found[3]
        id = TOP_ID.search(body) if found[1] is not None else TOPIC_ID.search(found[2])
        text = TOP_TEXT.search(body)
        if id is None or text is None:
            raise CliError(f"{path}:{number}: the topic has no <num> or no <title>")
        yield Topic(number, id[1], " ".join(html.unescape(text[1]).split()))


def _check_ends(path: Path, content: str, topics: Sequence[re.Match[str]]) -> None:
    """Raises CliError for a topic without its end, which hides the next one or is hidden itself."""
    starts = {topic.start() for topic in topics}
    for begin in TOP_BEGIN.finditer(content):
        if begin.start() not in starts:
            around = (topic.start() for topic in topics if topic.start() < begin.start() < topic.end())
            number = content.count("\n", 0, next(around, begin.start())) + 1
            raise CliError(f"{path}:{number}: the topic does not end, as with </top>")


def _read_table(path: Path, lines: Lines, delimiter: str) -> Iterator[Topic]:
    ended = (f"{line}\n" for _, line in lines)
    if delimiter == ",":
        rows = csv.reader(ended, strict=True)
    else:
        rows = csv.reader(ended, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    columns: tuple[int, int] | None = None
    width = 0
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns is None and (columns := _find_columns(cells)):
                width = len(cells)
                continue
            place = columns = columns or (0, 1)
            # more cells than columns: a text with commas and without quotes
            fits = not any(cells[width:]) if width else len(cells) == 2
            if len(cells) <= max(place) or not fits or not cells[place[0]]:
                raise CliError(f"{path}:{rows.line_num}: {_describe_row(cells)}")
            yield Topic(rows.line_num, cells[place[0]], cells[place[1]])
    except csv.Error as error:
        raise CliError(f"{path}:{rows.line_num}: is not CSV: {error}") from None


def _find_columns(cells: Sequence[str]) -> tuple[int, int] | None:
    """Finds the places of id and text in a header; None if the line is none."""
    names = [cell.lower() for cell in cells]
    id = next((names.index(name) for name in ID_COLUMNS if name in names), None)
    text = next((names.index(name) for name in TEXT_COLUMNS if name in names), None)
    return None if id is None or text is None else (id, text)


def _describe_row(cells: Sequence[str]) -> str:
    shown = " | ".join(cells)[:80]
    return (
        f"{shown!r} is no query: a line has a JSON object, or an id and a text with a tab or a comma between "
        "them (quote texts with commas), and TREC's topics begin with <top>"
    )
