"""The parts of a hit's texts that show why it was found, with the query's words marked."""

import html
import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from quarry.deadline import Deadline
from quarry.errors import DuplicateError, UnknownFieldError, WrongTypeError
from quarry.ranking.ranges import FRAGMENT_LENGTH, FRAGMENTS
from quarry.retrieval.lexical.marking.highlighting import Mark, QueryMarker
from quarry.retrieval.lexical.spans import Span, join_spans
from quarry.retrieval.text_query import Occurrence, SearchText, TermKind
from quarry.schema import FieldType, Schema, as_list
from quarry.types import Fields

DEFAULT_LENGTH, DEFAULT_FRAGMENTS = 200, 1
MOST_READ = 5_000_000
"""Characters that are analysed for one page; what is left then is shown from its beginning. They take about a
second."""
WRITTEN_COST, NEAR_COST = 1, 1
"""What a character counts more where prefixes or near spellings are looked for, and for each near one."""
NO_LIMIT = Deadline()
MOST_MARKS = 20_000
"""Marks of one text that are chosen from, about; what comes behind them is not read."""
KNOWN_WORD = 0.1
"""What a word counts that stands in another fragment already, beside the 1 of a new one."""

_BEGINNINGS = re.compile(r"(?<=[.!?;:]\s)|(?<=[。！？\n])")
"""Where a sentence, a part of one or a line begins."""
_SPACE = re.compile(r"\s+")


class HighlightTag(StrEnum):
    """The element around a marked word in HTML."""

    EM = "em"
    MARK = "mark"
    STRONG = "strong"
    B = "b"


class SnippetBasis(StrEnum):
    """The part of a text that a snippet shows."""

    WORDS = "words"
    """Words of the query."""
    PASSAGE = "passage"
    """The beginning of the passage that is nearest to the query by meaning: the field has no word of it."""
    BEGINNING = "beginning"
    """The beginning of the field."""


@dataclass(frozen=True, slots=True)
class SnippetField:
    """A field to show.

    Attributes:
        length: characters of a fragment at most, 20 to 1,000.
        fragments: at most, 1 to 10.

    Raises:
        OutOfRangeError: a number is out of range.
    """

    name: str
    length: int = DEFAULT_LENGTH
    fragments: int = DEFAULT_FRAGMENTS

    def __post_init__(self) -> None:
        FRAGMENT_LENGTH.check(self.length, "length")
        FRAGMENTS.check(self.fragments, "fragments")


@dataclass(frozen=True, slots=True)
class SnippetPlan:
    """The snippets that a search asks for.

    Attributes:
        fields: as ``check_snippet_fields`` passes them.
    """

    fields: tuple[SnippetField, ...]
    tag: HighlightTag = HighlightTag.EM


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of one value of a field.

    Attributes:
        value: which value of a list, from 0.
        start: place in the value, in characters (Unicode code points).
        text: as the value has it.
        highlights: (start, end) of each marked part in ``text``, in order, apart from each other.
        html: ``text`` escaped, with a tag around each marked part.
        goes_on: the value has more text behind it.
    """

    value: int
    start: int
    text: str
    highlights: tuple[tuple[int, int], ...]
    html: str
    goes_on: bool

    @property
    def size(self) -> int:
        """Bytes that it takes in a message, about."""
        return len(self.text.encode()) + len(self.html.encode()) + 8 * len(self.highlights) + 32


@dataclass(frozen=True, slots=True)
class Snippet:
    """Fragments of one field, in the order of its text."""

    field: str
    basis: SnippetBasis
    fragments: tuple[Fragment, ...]


def choose_all_texts(schema: Schema, length: int, fragments: int) -> tuple[SnippetField, ...]:
    """Chooses every text field of ``schema``."""
    texts = (field.name for field in schema.fields if field.type is FieldType.TEXT)
    return tuple(SnippetField(name, length, fragments) for name in texts)


def check_snippet_fields(names: Sequence[str], schema: Schema) -> None:
    """Raises InvalidArgumentError about the first of ``names`` that is no text field, or is there twice."""
    for index, name in enumerate(names):
        path, field = f"fields[{index}].name", schema.get(name)
        if field is None:
            raise UnknownFieldError(path, f"the schema has no field {name[:80]!r}")
        if field.type is not FieldType.TEXT:
            raise WrongTypeError(path, f"{name} is {field.type}, and only text has snippets")
        if name in names[:index]:
            raise DuplicateError(path, f"{name} is there twice")


class _Window(NamedTuple):
    """A part of a value, and the marks in it."""

    value: int
    start: int
    end: int
    marks: Sequence[Mark] = ()


class SnippetMaker:
    """Makes the snippets of one page.

    Args:
        search_text: what the search looks for, as ``LexicalIndex.rewrite_query`` leaves it; empty if nothing
            is to be marked.
        limit: until when texts are analysed; what is left then is shown from its beginning.

    Attributes:
        late: whether anything was left then.
    """

    def __init__(
        self, plan: SnippetPlan, search_text: SearchText, schema: Schema, limit: Deadline = NO_LIMIT
    ) -> None:
        self._fields, self._tag, self._limit, self.late = plan.fields, plan.tag, limit, False
        self._markers = {field.name: _make_marker(search_text, field.name) for field in plan.fields}
        self._cost = _compute_cost(search_text)
        self._texts = {field.name: field for field in schema.fields if field.type is FieldType.TEXT}
        self._embedded = tuple(field.name for field in schema.embedded)
        self._title = schema.title.name if schema.title else ""
        self._left = MOST_READ

    def make_snippets(self, fields: Fields) -> tuple[Snippet, ...]:
        """Makes a snippet of each field that the document has, with the query's words or from its beginning.

        Blocks: a million characters take some 0.15 s.
        """
        return tuple(snippet for field in self._fields if (snippet := self._make_snippet(field, fields)))

    def lacks_words(self, snippets: Sequence[Snippet]) -> bool:
        """Tells whether a passage may show more than one of ``snippets`` does."""
        return any(s.basis is SnippetBasis.BEGINNING and s.field in self._embedded for s in snippets)

    def show_passage(self, snippets: Sequence[Snippet], fields: Fields, passage: str) -> tuple[Snippet, ...]:
        """Shows the beginning of ``passage`` in the fields that have no word of the query."""
        places = self._locate(fields, passage)
        shown: list[Snippet] = []
        for snippet in snippets:
            place = places.get(snippet.field)
            if place is not None and snippet.basis is SnippetBasis.BEGINNING:
                field = next(f for f in self._fields if f.name == snippet.field)
                value, start = place
                text = as_list(fields[field.name])[value]
                window = _Window(value, start, _end_at_word(text, start, start + field.length))
                fragment = self._make_fragment(window, text)
                snippet = replace(snippet, basis=SnippetBasis.PASSAGE, fragments=(fragment,))
            shown.append(snippet)
        return tuple(shown)

    def _make_snippet(self, field: SnippetField, fields: Fields) -> Snippet | None:
        values: list[str] = as_list(fields.get(field.name))
        if not any(values):
            return None
        marks = [list(self._find_marks(text, field)) for text in values]
        windows = _choose_windows(values, marks, field)
        basis = SnippetBasis.WORDS if windows else SnippetBasis.BEGINNING
        if not windows:
            first = next(n for n, text in enumerate(values) if text)
            windows = [_Window(first, 0, _end_at_word(values[first], 0, field.length))]
        fragments = tuple(self._make_fragment(window, values[window.value]) for window in windows)
        return Snippet(field.name, basis, fragments)

    def _find_marks(self, text: str, field: SnippetField) -> Iterator[Mark]:
        """Finds the marks of ``text``, up to where all words of the query are close together."""
        language, read, given = self._texts[field.name].language, 0, 0
        marker = self._markers[field.name]
        wanted = marker.count_words(language)
        blocks = marker.find_marks(text, language)
        while self._may_read():
            block, end = next(blocks, ([], 0))
            if not end:
                return
            yield from block
            self._left, read = self._left - (end - read) * self._cost, end
            given += len(block)
            if given > MOST_MARKS or (block and len(_find_best(block, field.length, set())[1]) == wanted):
                return

    def _may_read(self) -> bool:
        """Tells whether there is room and time to analyse one block more."""
        self.late = self.late or not self._limit.remaining_s
        return self._left > 0 and not self.late

    def _make_fragment(self, window: _Window, text: str) -> Fragment:
        part = text[window.start : window.end]
        start = window.start + len(part) - len(part.lstrip())
        part = part.strip()
        highlights = _join_marks(window.marks, start, start + len(part))
        written = _write_html(part, highlights, self._tag)
        goes_on = bool(text[start + len(part) :].strip())
        return Fragment(window.value, start, part, highlights, written, goes_on)

    def _locate(self, fields: Fields, passage: str) -> dict[str, tuple[int, int]]:
        """Finds the value and the place in it where ``passage`` begins; nothing if it is not there now."""
        title = " ".join(as_list(fields.get(self._title))) if self._title else ""
        shared = next((n for n, (a, b) in enumerate(zip(title, passage, strict=False)) if a != b), None)
        body = passage[min(len(title), len(passage)) if shared is None else shared :].lstrip()
        pieces = [
            (name, n, text) for name in self._embedded for n, text in enumerate(as_list(fields.get(name)))
        ]
        place = "\n\n".join(text for _, _, text in pieces).find(body) if body else -1
        if place < 0:
            return {}
        for name, value, text in pieces:
            if place < len(text):
                return {name: (value, place)}
            place -= len(text) + len("\n\n")
        return {}


def _make_marker(search_text: SearchText, field: str) -> QueryMarker:
    """Makes what marks the values of ``field``."""
    if isinstance(search_text, str):
        return QueryMarker(search_text)
    terms = (term for term in search_text.terms if term.occurs is not Occurrence.EXCLUDED)
    return QueryMarker([term for term in terms if term.field in ("", field)])


def _compute_cost(search_text: SearchText) -> int:
    """Computes what each character counts."""
    terms = () if isinstance(search_text, str) else search_text.terms
    kinds = [term.kind for term in terms if term.occurs is not Occurrence.EXCLUDED]
    near = kinds.count(TermKind.FUZZY)
    return 1 + NEAR_COST * near + (WRITTEN_COST if near or TermKind.PREFIX in kinds else 0)


def _choose_windows(
    values: Sequence[str], marks: Sequence[Sequence[Mark]], field: SnippetField
) -> list[_Window]:
    """Chooses the parts of the values that have most of the query's words, in the order of the text."""
    left = [list(found) for found in marks]
    chosen: list[_Window] = []
    known: set[str] = set()
    while len(chosen) < field.fragments and any(left):
        best = max(
            (n for n, found in enumerate(left) if found),
            key=lambda n: _find_best(left[n], field.length, known)[0],
        )
        _, words, first, last = _find_best(left[best], field.length, known)
        others = sorted((w.start, w.end) for w in chosen if w.value == best)
        start, end = _fit(values[best], left[best][first], left[best][last], field.length, others)
        inside = [mark for mark in left[best] if mark.start < end and mark.end > start]
        chosen.append(_Window(best, start, end, inside))
        left[best] = [mark for mark in left[best] if mark.start >= end or mark.end <= start]
        known |= words
    return sorted(chosen)


def _find_best(marks: Sequence[Mark], length: int, known: set[str]) -> tuple[float, set[str], int, int]:
    """Finds the run of marks within ``length`` characters that has most different words, the earliest of
    equal ones.

    Returns:
        What it counts, its words, and the places of its first and last mark.
    """
    counts: Counter[str] = Counter()
    best, weight, last = (0.0, 0, 0), 0.0, 0
    for first, mark in enumerate(marks):
        while last < len(marks) and (last == first or marks[last].end - mark.start <= length):
            word = marks[last].word
            counts[word] += 1
            weight += (KNOWN_WORD if word in known else 1.0) if counts[word] == 1 else 0.0
            last += 1
        if weight > best[0] + 1e-9:
            best = (weight, first, last - 1)
        counts[mark.word] -= 1
        weight -= (KNOWN_WORD if mark.word in known else 1.0) if counts[mark.word] == 0 else 0.0
    value, first, end = best
    return value, {mark.word for mark in marks[first : end + 1]}, first, end


def _fit(
    text: str, first: Mark, last: Mark, length: int, others: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Puts ``length`` characters around two marks, from a sentence or word to a word, between ``others``."""
    place = bisect_right(others, (first.start, first.start))
    low = others[place - 1][1] if place else 0
    high = others[place][0] if place < len(others) else len(text)
    spare = max(0, length - (last.end - first.start))
    end = min(high, max(low, first.start - spare // 2) + length)
    start = max(low, end - length)
    start = _start_at_word(text, start, first.start)
    end = _end_at_word(text, start, min(high, start + length), last.end)
    return start, end


def _start_at_word(text: str, start: int, most: int) -> int:
    """Moves ``start`` to where a sentence or else a word begins, at ``most`` at last."""
    if start == 0:
        return start
    for border in (_BEGINNINGS, _SPACE):
        found = border.search(text, start - 1, most + 1)
        if found is not None and found.end() <= most:
            return found.end()
    while start < most and unicodedata.combining(text[start]):
        start += 1
    return start


def _end_at_word(text: str, start: int, end: int, least: int = 0) -> int:
    """Moves ``end`` back to where a word ends, if there is one behind ``least`` and the middle."""
    if end >= len(text):
        return len(text)
    least = max(least, start + (end - start) // 2)
    place = end
    while place > least and not text[place].isspace():
        place -= 1
    if place > least or (place == least and text[place].isspace()):
        return place
    while end > least and unicodedata.combining(text[end]):
        end -= 1
    return end


def _join_marks(marks: Sequence[Mark], start: int, end: int) -> tuple[Span, ...]:
    """Lists the marked parts between two places, from the first of them; what overlaps or meets is one."""
    inside = (mark for mark in marks if mark.start < end and mark.end > start)
    return tuple(join_spans((max(m.start, start) - start, min(m.end, end) - start) for m in inside))


def _write_html(text: str, highlights: Sequence[tuple[int, int]], tag: HighlightTag) -> str:
    parts, place = [], 0
    for start, end in highlights:
        parts.append(html.escape(text[place:start]))
        parts.append(f"<{tag}>{html.escape(text[start:end])}</{tag}>")
        place = end
    return "".join([*parts, html.escape(text[place:])])
