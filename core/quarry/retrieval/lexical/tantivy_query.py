"""Text that a user typed as a Tantivy query: analysed and built, never parsed."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import tantivy
from tantivy import Occur, Query

from quarry.retrieval.lexical.analysis import QueryAnalyser
from quarry.retrieval.lexical.clauses import FORM_SHARE, Clause, Group, RunClause, WordClause, list_clauses
from quarry.retrieval.lexical.cutting import TextCutter, Word
from quarry.retrieval.lexical.tantivy_documents import count_documents
from quarry.retrieval.lexical.tantivy_filters import narrow_query
from quarry.retrieval.lexical.text_fields import TextField, list_text_fields, scale_boosts
from quarry.schema import Schema

K1 = 1.2  # Tantivy's, and not to be changed from Python
ROUNDING = 1 + 2**-18
"""Scores are sums of 32-bit floats, so they can come out above the exact sum."""


class BuiltQuery(NamedTuple):
    """A query of the engine.

    Attributes:
        ceiling: what no score of it can exceed; 0 only if it matches nothing.
        distance: letters by which the words that it matches may differ from those looked for.
    """

    query: Query
    ceiling: float
    distance: int = 0


class TextQueryBuilder:
    """Builds BM25 queries: a document's score is the sum of those of its words in all text fields."""

    def __init__(self, schema: Schema, engine_schema: tantivy.Schema) -> None:
        self._engine_schema = engine_schema
        self.fields = list_text_fields(schema)
        self._analysers = {field.language: QueryAnalyser(field.language) for field in self.fields}

    def list_texts(self) -> list[tuple[TextField, TextCutter]]:
        """Lists the fields that hold all text together, and what cuts it with its stop words left out."""
        whole = (field for field in self.fields if not field.boosted)
        return [(field, self._analysers[field.language].content_cutter) for field in whole]

    def list_clauses(self, text: str, boost_scale: float = 1.0) -> list[Clause]:
        """Lists what ``text`` looks for in each field; none if nothing can match."""
        return self.list_clauses_in(text, scale_boosts(self.fields, boost_scale))

    def list_clauses_in(self, text: str, fields: Sequence[TextField]) -> list[Clause]:
        """Lists what ``text`` looks for in each of these fields."""
        languages = {field.language for field in fields}
        return list_clauses(fields, {name: self._analysers[name].cut(text) for name in languages})

    def list_words(self, text: str, languages: Iterable[str]) -> list[str]:
        """Lists the words of ``text`` as they are written there, once each, stop words left out."""
        words: dict[str, None] = {}
        for analyser in (self._analysers[language] for language in languages):
            normal = analyser.normalize(text)
            parts = (part for part in analyser.cut(normal) if isinstance(part, Word))
            words.update(dict.fromkeys(normal[part.start : part.end] for part in parts))
        return list(words)

    def build(self, searcher: tantivy.Searcher, clauses: Sequence[Clause]) -> BuiltQuery:
        """Builds the query with its ceiling; who needs no ceiling calls ``make_query``."""
        return BuiltQuery(self.make_query(searcher, clauses), compute_score_ceiling(searcher, clauses))

    def make_query(self, searcher: tantivy.Searcher, clauses: Sequence[Clause]) -> Query:
        """Makes the query for the index as ``searcher`` sees it, which says how rare a spelling is."""
        queries: list[Query] = []
        groups: list[Query] = []
        matches_by_any = True
        for clause in clauses:
            if isinstance(clause, RunClause):
                queries += [self._make_term(clause.field, pair, clause.weight) for pair in clause.pairs]
                groups += [self._make_group(clause.field, group) for group in clause.groups]
                matches_by_any = matches_by_any and clause.matches_by_any
            elif clause.others:
                queries += self._make_spellings(searcher, clause)
            else:
                queries.append(self._make_term(clause.field, clause.text, clause.weight))
        if not queries:
            return Query.empty_query()
        query = Query.boolean_query([(Occur.Should, query) for query in queries])
        if matches_by_any:
            return query
        words = [clause for clause in clauses if isinstance(clause, WordClause)]
        if words:
            groups.append(self.make_query(searcher, words))
        matching = Query.boolean_query([(Occur.Should, group) for group in groups])
        return narrow_query(query, matching)

    def _make_group(self, field: str, group: Group) -> Query:
        pairs = [self._make_term(field, pair, 1.0) for pair in group.pairs]
        return Query.boolean_query([(Occur.Should, pair) for pair in pairs], group.needed)

    def _make_spellings(self, searcher: tantivy.Searcher, clause: WordClause) -> list[Query]:
        shares, idf, total = _share_idf(searcher, clause)
        queries = [
            self._make_term(clause.field, term, clause.weight * share * idf / compute_idf(total, n))
            for term, share, n in shares
        ]
        return queries if len(queries) < 2 else [Query.disjunction_max_query(queries)]

    def _make_term(self, field: str, text: str, weight: float) -> Query:
        query = Query.term_query(self._engine_schema, field, text, "freq")
        return query if weight == 1 else Query.boost_query(query, weight)


def compute_score_ceiling(searcher: tantivy.Searcher, clauses: Sequence[Clause]) -> float:
    """Computes what no score can exceed: each word as often as can be in the shortest document."""
    total = count_documents(searcher)
    terms: list[tuple[float, str, str]] = []
    weights: list[float] = []
    for clause in clauses:
        if isinstance(clause, RunClause):
            terms += [(clause.weight, clause.field, pair) for pair in clause.pairs]
        elif clause.others:
            shares, idf, _ = _share_idf(searcher, clause)
            weights += [clause.weight * idf * max(share for _, share, _ in shares)] if shares else []
        else:
            terms.append((clause.weight, clause.field, clause.text))
    frequencies = [searcher.doc_freq(field, text) for _, field, text in terms]
    weights += [w * compute_idf(total, n) for (w, _, _), n in zip(terms, frequencies, strict=True) if n]
    return math.fsum(weights) * (K1 + 1) * ROUNDING


def _share_idf(
    searcher: tantivy.Searcher, clause: WordClause
) -> tuple[list[tuple[str, float, int]], float, int]:
    """Finds what spellings of a word occur, and one idf for them all.

    A spelling that few documents have is no rarer a word: by an idf of its own a slip of the pen would count
    more than the word itself.

    Returns:
        Each spelling with its share and how many documents have it; the idf of the most frequent one; how
        many documents there are.
    """
    counted = ((term, searcher.doc_freq(clause.field, term)) for term in (clause.text, *clause.others))
    shares = [(term, 1.0 if term == clause.text else FORM_SHARE, n) for term, n in counted if n]
    total = count_documents(searcher)
    return shares, compute_idf(total, max((n for _, _, n in shares), default=0)), total


def compute_idf(total: int, having: int) -> float:
    return math.log1p((total - having + 0.5) / (having + 0.5))
