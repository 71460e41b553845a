"""The words of a query in a text, found by the analysis that BM25 compares them by."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from quarry.retrieval.lexical.analysis import (
    build_analyser,
    build_cutter,
    build_surface_cutter,
    list_surfaces,
)
from quarry.retrieval.lexical.cutting import Run
from quarry.retrieval.lexical.marking.blocks import list_blocks
from quarry.retrieval.lexical.marking.wanted_words import Steps, WantedWords
from quarry.retrieval.lexical.spans import align_text
from quarry.retrieval.text_query import Term


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


class _Spot(NamedTuple):
    """A place where a text has a term of the index."""

    term: str
    position: int
    start: int
    end: int


class QueryMarker:
    """Marks what one query looks for in texts of any language: stems, spellings without accents, pairs of
    characters of scripts without spaces, phrases, prefixes and near spellings, as the index finds them.
    Callable from any thread.

    Args:
        query: words, or terms as ``LexicalIndex.rewrite_query`` leaves them; none is excluded.
    """

    def __init__(self, query: str | Sequence[Term]) -> None:
        self._terms = (Term(query),) if isinstance(query, str) else query
        self._wanted: dict[str, WantedWords] = {}

    def count_words(self, language: str) -> int:
        """Counts the different words and pairs that a text of this language can have."""
        return self._get_wanted(language).count()

    def find_marks(self, text: str, language: str) -> Iterator[tuple[list[Mark], int]]:
        """Finds the marks of one block of ``text`` after another, in order, and where the block ends."""
        wanted = self._get_wanted(language)
        if not wanted:
            return
        for start, end, read_to in list_blocks(text):
            found = _find_marks(language, text[start:read_to], start, wanted)
            yield sorted({mark for marks in found if marks[0].start < end for mark in marks}), end

    def _get_wanted(self, language: str) -> WantedWords:
        if language not in self._wanted:
            self._wanted[language] = WantedWords(self._terms, language)
        return self._wanted[language]


def _find_marks(language: str, text: str, offset: int, wanted: WantedWords) -> Iterator[list[Mark]]:
    """Finds each thing that is marked in ``text``: one mark, or those of a phrase."""
    cutter = build_cutter(language)
    normal, places = cutter.normalize(text), None
    if normal != text:
        normal, places = align_text(text, cutter.normalize)
    is_plain = cutter.is_plain(normal)
    for marks in _match(language, normal, is_plain, wanted):
        if places is not None:
            marks = [Mark(places[start][0], places[end - 1][1], word) for start, end, word in marks]
        yield [Mark(offset + start, offset + end, word) for start, end, word in marks]


def _match(language: str, text: str, is_plain: bool, wanted: WantedWords) -> Iterator[list[Mark]]:
    places: dict[str, dict[int, _Spot]] = {term: {} for term in wanted.phrase_terms}
    if wanted.words or places:
        for spot in _list_spots(language, text, is_plain, wanted.words.keys() | places.keys()):
            if spot.term in wanted.words:
                yield [Mark(spot.start, spot.end, wanted.words[spot.term])]
            if spot.term in places:
                places[spot.term][spot.position] = spot
    for steps in wanted.phrases:
        yield from _match_phrase(steps, places)
    if wanted.surfaces is not None:
        written = _list_written(language, text, is_plain)
        found = wanted.surfaces.find(surface for surface, _, _ in written)
        yield from ([Mark(start, end, found[surface])] for surface, start, end in written if found[surface])


def _match_phrase(steps: Steps, places: Mapping[str, Mapping[int, _Spot]]) -> Iterator[list[Mark]]:
    """Matches the terms of a phrase where they stand in a row."""
    first = steps[0][0]
    for start in {position - first for term in steps[0][1] for position in places[term]}:
        marks: list[Mark] = []
        for place, terms in steps:
            spot = next((places[t][start + place] for t in terms if start + place in places[t]), None)
            if spot is None:
                break
            marks.append(Mark(spot.start, spot.end, terms[0]))
        if len(marks) == len(steps):
            yield marks


def _list_spots(language: str, text: str, is_plain: bool, terms: Set[str]) -> Iterator[_Spot]:
    """Lists where ``text`` has any of ``terms``. A plain one, as most are, takes a fraction of the time."""
    if is_plain:
        for token in build_analyser(language).pre_tokenize(text).tokens:
            if token.text in terms:
                yield _Spot(token.text, token.position, token.char_offset_from, token.char_offset_to)
        return
    for part in build_cutter(language).cut(text):
        if isinstance(part, Run):
            yield from (spot for spot in _list_pairs(part, text) if spot.term in terms)
            continue
        for term, position in part.list_terms():
            if term in terms:
                yield _Spot(term, position, part.start, part.end)


def _list_written(language: str, text: str, is_plain: bool) -> list[tuple[str, int, int]]:
    """Lists the words of ``text`` as they are written, each spelling without accents for itself."""
    if is_plain:
        tokens = build_analyser(language, stems=False).pre_tokenize(text).tokens
        return [(token.text, token.char_offset_from, token.char_offset_to) for token in tokens]
    parts = build_surface_cutter(language).cut(text)
    return [(surface, part.start, part.end) for part in parts for surface in list_surfaces(part)]


def _list_pairs(run: Run, text: str) -> Iterator[_Spot]:
    """Lists the characters of a run, and its pairs."""
    ends = _list_ends(run, text)
    for size, terms in ((1, run.characters), (2, run.pairs)):
        for n, term in enumerate(terms):
            yield _Spot(term, run.position + n, ends[n - 1] if n else run.start, ends[n + size - 1])


def _list_ends(run: Run, text: str) -> Sequence[int]:
    """Lists where each character of a run ends; accents of other scripts were left out of them."""
    ends, place = [], run.start
    for character in run.characters:
        place = text.find(character, place, run.end) + len(character)
        if place < run.start + len(character):
            return [run.end] * len(run.characters)
        ends.append(place)
    return ends
