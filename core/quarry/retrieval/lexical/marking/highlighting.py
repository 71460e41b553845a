"""The words of a query in a text, found by the analysis that BM25 compares them by."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import regex
import tantivy

from quarry.retrieval.lexical.analysis import QueryAnalyser, build_analyser, build_cutter
from quarry.retrieval.lexical.clauses import WordClause, list_clauses
from quarry.retrieval.lexical.cutting import Run, TextCutter, Word
from quarry.retrieval.lexical.text_fields import TextField

BLOCK_CHARACTERS = 20_000
"""A text is analysed in blocks of about this size, so that its reader can stop early."""

_CLUSTER = regex.compile(r"\X", regex.DOTALL)
"""A character with all marks that belong to it; Unicode's forms change nothing beyond one."""
_NOT_ASCII = regex.compile(r".?[^\x00-\x7f]+", regex.DOTALL)
"""With the character before, which a mark may belong to."""
_BORDER = regex.compile(r"\s")


class Mark(NamedTuple):
    """A part of a text that a query matches.

    Attributes:
        start: in characters (Unicode code points) of the text, from 0.
        end: behind the last one.
        word: which word of the query it is, or which pair of characters.
    """

    start: int
    end: int
    word: str


class QueryMarker:
    """Marks the words of one query in texts of any language: stems, spellings without accents, and pairs of
    characters of scripts without spaces, as in the index. Callable from any thread."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._words: dict[str, dict[str, str]] = {}

    def count_words(self, language: str) -> int:
        """Counts the different words and pairs that a text of this language can have."""
        return len(set(self._list_words(language).values()))

    def find_marks(self, text: str, language: str) -> Iterator[tuple[list[Mark], int]]:
        """Finds the marks of one block of ``text`` after another, in order, and where the block ends."""
        words = self._list_words(language)
        if not words:
            return
        for start, end in _list_blocks(text):
            yield _find_marks(language, text[start:end], start, words), end

    def _list_words(self, language: str) -> dict[str, str]:
        """Lists each term that matches, with the word of the query that it is a spelling of."""
        if language not in self._words:
            parts = {language: _get_query_analyser(language).cut(self._query)}
            words: dict[str, str] = {}
            for clause in list_clauses([TextField("", (), language, 1.0)], parts):
                if isinstance(clause, WordClause):
                    words.update(dict.fromkeys((clause.text, *clause.others), clause.text))
                else:
                    words.update((pair, pair) for pair in clause.pairs)
            self._words[language] = words
        return self._words[language]


@functools.cache
def _get_cutter(language: str) -> TextCutter:
    return build_cutter(language)


@functools.cache
def _get_analyser(language: str) -> tantivy.TextAnalyzer:
    return build_analyser(language)


@functools.cache
def _get_query_analyser(language: str) -> QueryAnalyser:
    return QueryAnalyser(language)


def _list_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Cuts a long text where there is white space, if there is any."""
    start = 0
    while start < len(text):
        border = _BORDER.search(text, start + BLOCK_CHARACTERS, start + 2 * BLOCK_CHARACTERS)
        end = border.end() if border else min(len(text), start + 2 * BLOCK_CHARACTERS)
        if len(text) - start <= BLOCK_CHARACTERS:
            end = len(text)
        yield start, end
        start = end


def _find_marks(language: str, text: str, offset: int, words: dict[str, str]) -> list[Mark]:
    cutter = _get_cutter(language)
    normal, places = cutter.normalize(text), None
    if normal != text:
        normal, places = _align(cutter, text)
    if cutter.is_plain(normal):
        found = list(_match_plain(_get_analyser(language), normal, words))
    else:
        found = [mark for part in cutter.cut(normal) for mark in _match_part(part, normal, words)]
    if places is not None:
        found = [Mark(places[start][0], places[end - 1][1], word) for start, end, word in found]
    return [Mark(offset + start, offset + end, word) for start, end, word in found]


def _align(cutter: TextCutter, text: str) -> tuple[str, list[tuple[int, int]]]:
    """Puts ``text`` in the form that is analysed, piece by piece.

    The second result is where each character of the normalised text comes from.
    """
    pieces: list[str] = []
    places: list[tuple[int, int]] = []
    known: dict[str, str] = {}

    def add_ascii(start: int, end: int) -> None:
        pieces.append(cutter.normalize(text[start:end]))
        places.extend((place, place + 1) for place in range(start, end))

    ended = 0
    for run in _NOT_ASCII.finditer(text):
        add_ascii(ended, run.start())
        for cluster in _CLUSTER.finditer(text, *run.span()):
            if (normal := known.get(cluster[0])) is None:
                normal = known[cluster[0]] = cutter.normalize(cluster[0])
            pieces.append(normal)
            places += [cluster.span()] * len(normal)
        ended = run.end()
    add_ascii(ended, len(text))
    return "".join(pieces), places


def _match_plain(analyser: tantivy.TextAnalyzer, text: str, words: dict[str, str]) -> Iterator[Mark]:
    """Matches ordinary words without other spellings, which most texts have, several times as fast."""
    for token in analyser.pre_tokenize(text).tokens:
        word = words.get(token.text)
        if word is not None:
            yield Mark(token.char_offset_from, token.char_offset_to, word)


def _match_part(part: Word | Run, text: str, words: dict[str, str]) -> Iterator[Mark]:
    if isinstance(part, Run):
        yield from _match_run(part, text, words)
        return
    word = next((words[term] for term, _ in part.list_terms() if term in words), None)
    if word is not None:
        yield Mark(part.start, part.end, word)


def _match_run(run: Run, text: str, words: dict[str, str]) -> Iterator[Mark]:
    """Matches pairs, and characters that stand alone in the query."""
    ends = _list_ends(run, text)
    for size, terms in ((1, run.characters), (2, run.pairs)):
        for place, term in enumerate(terms):
            if term in words:
                start = ends[place - 1] if place else run.start
                yield Mark(start, ends[place + size - 1], words[term])


def _list_ends(run: Run, text: str) -> Sequence[int]:
    """Lists where each character of a run ends; accents of other scripts were left out of them."""
    ends, place = [], run.start
    for character in run.characters:
        place = text.find(character, place, run.end) + len(character)
        if place < run.start + len(character):
            return [run.end] * len(run.characters)
        ends.append(place)
    return ends
