"""A lexical index in memory: exact, slow, and the reference for the contract that all of them keep."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from itertools import accumulate, groupby

import regex

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import DeadlineExceeded
from quarry.facets import Facet, FacetRequest, count_facet
from quarry.filters import Filter, matches
from quarry.retrieval.base import FIRST_DOCNO, ExcerptQuery, Excerpts, LexicalResult, OrderedResult
from quarry.retrieval.lexical.clauses import FORM_SHARE, Clause, RunClause, WordClause, list_clauses
from quarry.retrieval.lexical.cutting import Run, TextCutter, Word
from quarry.retrieval.lexical.excerpts.excerpts import (
    ExcerptMaker,
    compute_draw,
    matches_excerpt,
    order_titles,
)
from quarry.retrieval.lexical.folding import list_folds
from quarry.retrieval.lexical.key_terms import find_key_terms
from quarry.retrieval.lexical.memory_terms import MemoryTerms
from quarry.retrieval.lexical.text_fields import (
    TextField,
    list_indexed_fields,
    list_text_fields,
    scale_boosts,
)
from quarry.retrieval.ordering import MAX_ORDERED, OrderBy, sort_by_fields
from quarry.retrieval.text_query import SearchText, TextQuery
from quarry.schema import Schema, as_list
from quarry.types import Candidate, Change, Docno, Fields, FieldScalar, Position

K1, B = 1.2, 0.75

_WORD = regex.compile(r"[\p{Alphabetic}\p{N}]+")


class MemoryLexicalIndex:
    """BM25 over lowercased words, without stemming, summed over text fields; nothing outlives the object.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, with Lucene's idf, which is
    never negative.
    """

    def __init__(self, generation: str, schema: Schema) -> None:
        self._schema = schema
        self._fields, self._indexed = list_text_fields(schema), list_indexed_fields(schema)
        self._cutters = {field.language: _make_cutter(field.language) for field in self._fields}
        self._position = Position(generation, 0)
        self._documents: dict[Docno, Change] = {}
        self._pending: dict[Docno, Change] = {}
        self._words: dict[str, dict[Docno, Counter[str]]] = {}

    @property
    def position(self) -> Position:
        return self._position

    def apply(self, changes: Sequence[Change]) -> None:
        self._pending.update((change.docno, change) for change in changes)

    def commit(self, sequence: int) -> None:
        merged = self._documents | self._pending
        self._documents = {n: c for n, c in merged.items() if c.fields is not None}
        self._words = {
            field.name: {n: self._count_terms(c.fields, field) for n, c in self._documents.items()}
            for field in self._indexed
        }
        self._pending = {}
        self._position = Position(self._position.generation, sequence)

    def search(
        self, text: SearchText, depth: int, filter: Filter | None, boost_scale: float = 1.0
    ) -> LexicalResult:
        scores = self.score_documents(text, self._list_passing(filter), boost_scale)
        best = sorted(scores, key=lambda docno: (-scores[docno], docno))[:depth]
        candidates = [Candidate(docno, scores[docno]) for docno in best]
        if isinstance(text, str):
            ceiling = math.fsum(map(self._compute_ceiling, self._list_clauses(text, boost_scale)))
        else:
            ceiling = max(scores.values(), default=0.0)
        return LexicalResult(candidates, len(scores), ceiling)

    def browse(self, depth: int, filter: Filter | None, first: Docno = FIRST_DOCNO) -> LexicalResult:
        passing = sorted(self._list_passing(filter))
        listed = [docno for docno in passing if docno >= first][:depth]
        return LexicalResult([Candidate(docno, 0.0) for docno in listed], len(passing))

    def order(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        order: Sequence[OrderBy],
        hidden: Collection[Docno] = (),
    ) -> OrderedResult:
        matching = self._list_matching(text, filter, hidden)
        ordered = sort_by_fields(matching, order, self._read_first)[:MAX_ORDERED]
        ties = [
            tuple(tie)
            for _, tie in groupby(ordered, lambda docno: [self._read_first(docno, by.field) for by in order])
        ]
        ends = accumulate(map(len, ties))
        needed = next((n for n, end in enumerate(ends, 1) if end >= depth), len(ties))
        return OrderedResult(ties[:needed], len(matching))

    def count_facets(
        self,
        text: SearchText,
        filter: Filter | None,
        facets: Sequence[FacetRequest],
        hidden: Collection[Docno] = (),
        limit: Deadline = NO_LIMIT,
    ) -> list[Facet]:
        matching = self._list_matching(text, filter, hidden)
        if not limit.remaining_s:
            raise DeadlineExceeded("there was not time enough to count facets")
        contents = [self._documents[docno].fields or {} for docno in matching]
        return [count_facet(facet, contents) for facet in facets]

    def score_documents(
        self, text: SearchText, docnos: Collection[Docno], boost_scale: float = 1.0
    ) -> dict[Docno, float]:
        if isinstance(text, str):
            return self._score_clauses(self._list_clauses(text, boost_scale), docnos)
        scores = self._make_terms().score(text, boost_scale)
        return {docno: scores[docno] for docno in docnos if docno in scores}

    def rewrite_query(self, query: TextQuery) -> TextQuery:
        return self._make_terms().rewrite_query(query)

    def keep_admitted(self, query: TextQuery, docnos: Collection[Docno]) -> Set[Docno]:
        return self._make_terms().keep_admitted(query, docnos)

    def find_key_terms(self, fields: Fields, most: int) -> list[str]:
        def count_having(field: str, term: str) -> int:
            return sum(term in words for words in self._words.get(field, {}).values())

        texts = [(field, self._cutters[field.language]) for field in self._fields if not field.boosted]
        return find_key_terms(fields, texts, count_having, len(self._documents), most)

    def read_versions(self) -> Iterator[tuple[Docno, int]]:
        return iter([(docno, change.version) for docno, change in self._documents.items()])

    def find_damage(self, deadline: Deadline) -> str:
        return ""

    def find_beside_deleted(self, thorough: bool = False) -> list[Docno]:
        return []

    def close(self) -> None:
        self._pending = {}

    def _list_passing(self, filter: Filter | None) -> list[Docno]:
        return [n for n, c in self._documents.items() if filter is None or matches(filter, c.fields or {})]

    def _make_terms(self) -> MemoryTerms:
        documents = {docno: change.fields or {} for docno, change in self._documents.items()}

        def score_words(text: str, fields: Sequence[TextField]) -> dict[Docno, float]:
            return self._score_clauses(list_clauses(fields, self._cut(text)), documents)

        return MemoryTerms(self._schema, self._cutters, documents, score_words)

    def _score_clauses(self, clauses: Sequence[Clause], docnos: Collection[Docno]) -> dict[Docno, float]:
        return {
            docno: math.fsum(self._score_clause(clause, docno) for clause in clauses)
            for docno in docnos
            if any(self._matches(clause, docno) for clause in clauses)
        }

    def _cut(self, text: str) -> dict[str, list[Word | Run]]:
        return {language: cutter.cut(cutter.normalize(text)) for language, cutter in self._cutters.items()}

    def _list_matching(
        self, text: SearchText, filter: Filter | None, hidden: Collection[Docno]
    ) -> list[Docno]:
        """Lists all documents that match by docno, and all that pass ``filter`` for an empty ``text``."""
        passing = sorted(set(self._list_passing(filter)).difference(hidden))
        return sorted(self.score_documents(text, passing)) if text else passing

    def _read_first(self, docno: Docno, name: str) -> FieldScalar | None:
        values = as_list((self._documents[docno].fields or {}).get(name))
        return values[0] if values else None

    def _list_clauses(self, text: str, boost_scale: float) -> list[Clause]:
        return list_clauses(scale_boosts(self._fields, boost_scale), self._cut(text))

    def _matches(self, clause: Clause, docno: Docno) -> bool:
        has = self._words.get(clause.field, {}).get(docno, Counter())
        if isinstance(clause, WordClause):
            return any(term in has for term in (clause.text, *clause.others))
        return any(sum(pair in has for pair in group.pairs) >= group.needed for group in clause.groups)

    def _score_clause(self, clause: Clause, docno: Docno) -> float:
        field = self._words.get(clause.field, {})
        if docno not in field:
            return 0.0
        if isinstance(clause, RunClause):
            saturated = (
                _compute_idf(field, [pair]) * _compute_saturation(field, pair, docno) for pair in clause.pairs
            )
            return clause.weight * math.fsum(saturated)
        spellings = _list_spellings(field, clause)
        best = max(
            (share * _compute_saturation(field, term, docno) for term, share in spellings), default=0.0
        )
        return clause.weight * _compute_idf(field, [term for term, _ in spellings]) * best

    def _compute_ceiling(self, clause: Clause) -> float:
        field = self._words.get(clause.field, {})
        if isinstance(clause, RunClause):
            having = (_compute_idf(field, [pair]) for pair in clause.pairs if _has_term(field, pair))
            return clause.weight * math.fsum(having) * (K1 + 1)
        spellings = _list_spellings(field, clause)
        share = max((share for _, share in spellings), default=0.0)
        return clause.weight * _compute_idf(field, [term for term, _ in spellings]) * share * (K1 + 1)

    def _count_terms(self, fields: Fields | None, field: TextField) -> Counter[str]:
        cutter = self._cutters[field.language]
        texts = (cutter.normalize(v) for name in field.sources for v in as_list((fields or {}).get(name)))
        parts = (part for text in texts for part in cutter.cut(text))
        return Counter(term for part in parts for term, _ in part.list_terms())


class MemoryExcerptIndex(MemoryLexicalIndex):
    """An ExcerptIndex in memory: exact, slow, and the reference for the contract."""

    def __init__(self, generation: str, schema: Schema) -> None:
        super().__init__(generation, schema)
        self._maker = ExcerptMaker(schema)

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        excerpts = [self._maker.make_excerpt(self._documents[n]) for n in self._list_passing(filter)]
        found = [excerpt for excerpt in excerpts if matches_excerpt(query, excerpt)]
        ordered = (
            order_titles(found) if query.in_titles else sorted(found, key=lambda e: compute_draw(e.docno))
        )
        return Excerpts(ordered[:depth], len(found))


_Field = Mapping[Docno, Counter[str]]


def _list_spellings(field: _Field, clause: WordClause) -> list[tuple[str, float]]:
    """Lists the spellings of a word that occur, each with its share."""
    terms = (clause.text, *clause.others)
    return [(term, 1.0 if term == clause.text else FORM_SHARE) for term in terms if _has_term(field, term)]


def _has_term(field: _Field, term: str) -> bool:
    return any(term in words for words in field.values())


def _compute_saturation(field: _Field, term: str, docno: Docno) -> float:
    """Computes what a document's frequency of ``term`` makes of its idf."""
    frequency, length = field[docno][term], field[docno].total()
    average = sum(words.total() for words in field.values()) / len(field)
    return frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length / (average or 1)))


def _compute_idf(field: _Field, terms: Sequence[str]) -> float:
    """Computes one idf for all ``terms``, that of the most frequent one."""
    having = max((sum(term in words for words in field.values()) for term in terms), default=0)
    return math.log1p((len(field) - having + 0.5) / (having + 0.5))


def _make_cutter(language: str) -> TextCutter:
    def split(text: str) -> Iterator[Word]:
        for n, found in enumerate(_WORD.finditer(text)):
            yield Word(_lower(found[0], language), n, *found.span())

    def read_word(text: str) -> Iterator[Word]:
        yield Word(_lower(text, language), 0, 0, len(text))

    return TextCutter(language, split, read_word)


def _lower(word: str, language: str) -> str:
    return word.translate(list_folds("en")[0]).lower() if language == "en" else word.lower()
