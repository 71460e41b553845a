"""Queries of terms in the lexical index in memory: exact and slow."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product

from quarry.retrieval.lexical.analysis import cut_phrase, cut_surfaces, list_surfaces
from quarry.retrieval.lexical.clauses import FORM_SHARE, list_steps
from quarry.retrieval.lexical.cutting import TextCutter
from quarry.retrieval.lexical.near_words import FUZZY_SHARE, choose_distance, find_near_words, make_exact
from quarry.retrieval.lexical.text_fields import TextField, list_own_fields, list_text_fields, scale_boosts
from quarry.retrieval.lexical.vocabulary_terms import arrange_terms
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import Schema, as_list
from quarry.types import Docno, Fields

_BELOW = 1e-10
Scores = dict[Docno, float]
ScoreWords = Callable[[str, Sequence[TextField]], Scores]
"""Scores the documents that have any word of a text in any of the fields."""


class MemoryTerms:
    """Finds terms by looking at each document's text.

    Args:
        cutters: by language.
        documents: that are visible.
    """

    def __init__(
        self,
        schema: Schema,
        cutters: Mapping[str, TextCutter],
        documents: Mapping[Docno, Fields],
        score_words: ScoreWords,
    ) -> None:
        self._schema = schema
        self._own, self._scored = list_own_fields(schema), list_text_fields(schema)
        self._cutters, self._documents, self._score_words = cutters, documents, score_words

    def score(self, query: TextQuery, boost_scale: float) -> Scores:
        """Scores the documents that match."""
        query = arrange_terms(query, self._schema)
        exact: list[Scores] = []
        near: list[Scores] = []
        for term in query.terms:
            if term.occurs is not Occurrence.EXCLUDED:
                found, is_near = self._find(term, boost_scale)
                (near if is_near else exact).append(found)
            if query.tolerates_typos and term.is_optional_words and not term.others:
                near += [self._find_near(typo)[0] for typo in self._list_typos(term)]
        total = _add(exact)
        alone = not total or any(term.occurs is Occurrence.REQUIRED for term in query.terms)
        for docno, score in _add(near).items():
            total[docno] = total.get(docno, 0.0) + (score if alone or docno in total else _BELOW)
        return {docno: score for docno, score in total.items() if self._check_admitted(query, docno)}

    def rewrite_query(self, query: TextQuery) -> TextQuery:
        """Rewrites a query as ``LexicalIndex.rewrite_query`` says."""
        terms: list[Term] = []
        for term in arrange_terms(query, self._schema).terms:
            if term.kind is not TermKind.FUZZY:
                terms.append(term)
                if query.tolerates_typos and term.is_optional_words and not term.others:
                    terms += self._list_typos(term)
            elif self._score_words(term.text, self._choose_fields(term, 1.0)):
                terms.append(make_exact(term))
            else:
                distance = self._find_near(term)[1]
                terms += [replace(term, distance=distance)] if distance else []
        return TextQuery(tuple(terms))

    def keep_admitted(self, query: TextQuery, docnos: Collection[Docno]) -> set[Docno]:
        """Keeps the documents that have each required term and none that is excluded."""
        query = arrange_terms(query, self._schema)
        return {docno for docno in docnos if docno in self._documents and self._check_admitted(query, docno)}

    def _check_admitted(self, query: TextQuery, docno: Docno) -> bool:
        wanted = {Occurrence.REQUIRED: True, Occurrence.EXCLUDED: False}
        return all(
            (docno in self._find(term, 1.0)[0]) is wanted[term.occurs]
            for term in query.terms
            if term.occurs in wanted
        )

    def _find(self, term: Term, boost_scale: float) -> tuple[Scores, bool]:
        """Finds the documents with a term, and tells whether by near words."""
        own, fields = self._list_own(term), self._choose_fields(term, boost_scale)
        has_words = all(cut_surfaces(self._cutters[field.language], term.text) for field in own)
        if term.kind is TermKind.PREFIX and has_words:
            return self._find_surfaces(term.text, own, str.startswith), False
        if term.kind is TermKind.FUZZY and has_words:
            exact = self._score_words(term.text, fields)
            return (exact, False) if exact else (self._find_near(term)[0], True)
        if term.is_optional_words:
            found = self._score_words(term.text, fields)
        else:
            found = _add([self._find_phrase(term.text, field) for field in fields])
        most = max(found.values(), default=math.inf)
        for other in term.others:
            for docno, score in _add([self._find_phrase(other, field) for field in fields]).items():
                found[docno] = max(found.get(docno, 0.0), FORM_SHARE * min(most, score))
        return found, False

    def _list_own(self, term: Term) -> Sequence[TextField]:
        own = (self._own[term.field],) if term.field else tuple(self._own.values())
        return [field for field in own if term.is_for(field.language)]

    def _choose_fields(self, term: Term, boost_scale: float) -> Sequence[TextField]:
        scored = self._list_own(term) if term.field else scale_boosts(self._scored, boost_scale)
        return [field for field in scored if term.is_for(field.language)]

    def _list_typos(self, term: Term) -> list[Term]:
        """Lists the words of a term that no document has, as terms with the distance of what is near."""
        own, fields = self._list_own(term), self._choose_fields(term, 1.0)
        words = dict.fromkeys(w for field in own for w in self._list_surfaces(term.text, field.language))
        unknown = (word for word in words if not self._score_words(word, fields))
        typos = (Term(word, TermKind.FUZZY, field=term.field) for word in unknown)
        return [replace(typo, distance=near) for typo in typos if (near := self._find_near(typo)[1])]

    def _find_phrase(self, text: str, field: TextField) -> Scores:
        steps = list_steps(cut_phrase(self._cutters[field.language], text), field.language)
        ways = list(product(*([(place, term) for term in terms] for place, terms in steps)))
        found: Scores = {}
        for docno, fields in self._documents.items():
            counted = sum(_count_ways(places, ways) for places in self._read_places(fields, field))
            if counted:
                found[docno] = field.weight * len(steps) * counted / (counted + 1)
        return found

    def _read_places(self, fields: Fields, field: TextField) -> list[set[tuple[int, str]]]:
        cutter = self._cutters[field.language]
        texts = (value for name in field.sources for value in as_list(fields.get(name)))
        return [
            {
                (place, term)
                for part in cutter.cut(cutter.normalize(text))
                for term, place in part.list_terms()
            }
            for text in texts
        ]

    def _find_near(self, term: Term) -> tuple[Scores, int]:
        """Finds documents with the nearest words, and how near they are; 0 if there are none."""
        farthest = term.distance or choose_distance(term.text)
        for distance in range(1, farthest + 1):

            def is_near(word: str, wanted: str, most: int = distance) -> bool:
                return bool(find_near_words([word], wanted, most))

            found = self._find_surfaces(term.text, self._list_own(term), is_near)
            if found:
                return {docno: FUZZY_SHARE * score for docno, score in found.items()}, distance
        return {}, 0

    def _find_surfaces(
        self, text: str, fields: Sequence[TextField], fits: Callable[[str, str], bool]
    ) -> Scores:
        """Finds documents with a word that ``fits`` the text's one."""
        found: Scores = {}
        for docno, values in self._documents.items():
            for field in fields:
                (wanted,) = self._list_surfaces(text, field.language)[:1] or ("",)
                texts = as_list(values.get(field.sources[0]))
                words = [word for value in texts for word in self._list_surfaces(value, field.language)]
                if wanted and any(fits(word, wanted) for word in words):
                    found[docno] = math.log1p(len(self._documents))
        return found

    def _list_surfaces(self, text: str, language: str) -> list[str]:
        cutter = self._cutters[language]
        return [surface for part in cutter.cut(cutter.normalize(text)) for surface in list_surfaces(part)]


def _count_ways(places: set[tuple[int, str]], ways: Sequence[Sequence[tuple[int, str]]]) -> int:
    """Counts where a phrase begins, in whichever spelling."""
    starts = {place for place, _ in places}
    return sum(any(all((start + n, t) in places for n, t in way) for way in ways if way) for start in starts)


def _add(scores: Sequence[Scores]) -> Scores:
    total: Scores = {}
    for one in scores:
        for docno, score in one.items():
            total[docno] = total.get(docno, 0.0) + score
    return total
