"""The words that a query looks for in texts of one language, for whoever marks them there."""

from collections.abc import Iterable, Mapping, Sequence

from quarry.retrieval.lexical.analysis import (
    QueryAnalyser,
    build_cutter,
    build_surface_cutter,
    cut_phrase,
    cut_surfaces,
)
from quarry.retrieval.lexical.clauses import WordClause, list_clauses, list_steps
from quarry.retrieval.lexical.near_words import choose_distance, find_near_words
from quarry.retrieval.lexical.text_fields import TextField
from quarry.retrieval.text_query import Term, TermKind

Steps = Sequence[tuple[int, tuple[str, ...]]]
"""What stands in a row in a text: places from 0, and the terms that may stand at each."""


class WantedWords:
    """The words that the terms of a query look for, each term by itself, as the lexical index builds them.

    Attributes:
        words: each term of the index that is to be marked wherever it stands, with the word of the query that
            it is a spelling of.
        phrases: of two words or pairs at least, which are to be marked where they stand in a row.
        surfaces: finds words by how they are written; None if no term asks for that.
    """

    def __init__(self, terms: Iterable[Term], language: str) -> None:
        self.words: dict[str, str] = {}
        self.phrases: list[Steps] = []
        self._language = language
        surfaces = build_surface_cutter(language)
        whole: set[str] = set()
        beginnings: list[str] = []
        near: dict[tuple[str, int], None] = {}
        for term in terms:
            if not term.is_for(language):
                continue
            cut = cut_surfaces(surfaces, term.text) if term.kind in (TermKind.PREFIX, TermKind.FUZZY) else []
            if term.kind is TermKind.PREFIX and cut:
                whole.update(cut[:-1])
                beginnings.append(cut[-1])
            elif term.kind is TermKind.FUZZY and cut:
                near.update(dict.fromkeys((word, term.distance or choose_distance(word)) for word in cut))
            elif term.is_optional_words:
                self._add_words(term.text)
            else:
                self._add_phrase(term.text)
            for other in term.others:
                self._add_phrase(other)
        self.surfaces = SurfaceFinder(whole, beginnings, list(near)) if beginnings or near else None
        self.phrase_terms = {term for steps in self.phrases for _, terms in steps for term in terms}

    def __bool__(self) -> bool:
        return bool(self.words or self.phrases or self.surfaces)

    def count(self) -> int:
        """Counts the different words and pairs that a text can have, about."""
        of_phrases = {terms[0] for steps in self.phrases for _, terms in steps}
        return len({*self.words.values(), *of_phrases}) + (self.surfaces.count if self.surfaces else 0)

    def _add_words(self, text: str) -> None:
        parts = {self._language: QueryAnalyser(self._language).cut(text)}
        for clause in list_clauses([TextField("", (), self._language, 1.0)], parts):
            if isinstance(clause, WordClause):
                self.words.update(dict.fromkeys((clause.text, *clause.others), clause.text))
            else:
                self.words.update((pair, pair) for pair in clause.pairs)

    def _add_phrase(self, text: str) -> None:
        steps = list_steps(cut_phrase(build_cutter(self._language), text), self._language)
        if len(steps) > 1:
            self.phrases.append(steps)
        for _, terms in steps if len(steps) == 1 else ():
            self.words.update(dict.fromkeys(terms, terms[0]))


class SurfaceFinder:
    """Finds words by how they are written, without accents. It looks at each spelling once.

    Args:
        whole: words to be found as they are.
        beginnings: of words.
        near: words with the number of letters that may differ.
    """

    def __init__(self, whole: set[str], beginnings: Sequence[str], near: Sequence[tuple[str, int]]) -> None:
        self._whole, self._beginnings, self._near = whole, tuple(beginnings), near
        self._known: dict[str, str] = {}
        self.count = len({*whole, *beginnings, *(word for word, _ in near)})

    def find(self, surfaces: Iterable[str]) -> Mapping[str, str]:
        """Says which word of the query each of ``surfaces`` is found by; empty for none."""
        new = [surface for surface in dict.fromkeys(surfaces) if surface not in self._known]
        for surface in new:
            self._known[surface] = self._match(surface)
        for word, distance in self._near:
            for surface in find_near_words(new, word, distance):
                self._known[surface] = self._known[surface] or word
        return self._known

    def _match(self, surface: str) -> str:
        if surface.startswith(self._beginnings):
            return next(beginning for beginning in self._beginnings if surface.startswith(beginning))
        return surface if surface in self._whole else ""
