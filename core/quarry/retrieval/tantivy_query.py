"""Text that a user typed as a Tantivy query: analysed and built, never parsed."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import tantivy
from tantivy import Occur, Query

from quarry.retrieval.analysis import build_analyser, composed
from quarry.retrieval.tantivy_documents import total_documents
from quarry.schema import Schema

MAX_QUERY_WORDS = 512
"""Different words of a query that count, for each analyser; the first ones are taken."""

_K1 = 1.2  # Tantivy's, and not to be changed from Python
_ROUNDING = 1 + 2**-18
"""Scores are sums of 32-bit floats, so they can come out above the exact sum."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is looked for.

    Attributes:
        field: where.
        text: as the field's analyser leaves it.
        weight: what its BM25 is multiplied by: the field's boost, times how often the query has the word.
    """

    field: str
    text: str
    weight: float


class TextQueryBuilder:
    """Builds BM25 queries: a document's score is the sum of those of its words in all searchable fields."""

    def __init__(self, schema: Schema, engine_schema: tantivy.Schema) -> None:
        self._engine_schema = engine_schema
        self._fields = schema.searchable
        self._analysers = {field.language: build_analyser(field.language) for field in schema.searchable}

    def words(self, text: str) -> list[Word]:
        """The words of ``text`` in each field; none if nothing can match."""
        text = composed(text)
        counts = {
            language: _counted(analyser.analyze(text)) for language, analyser in self._analysers.items()
        }
        return [
            Word(field.name, word, field.boost * count)
            for field in self._fields
            for word, count in counts[field.language]
        ]

    def query(self, words: Sequence[Word]) -> Query:
        return Query.boolean_query([(Occur.Should, self._word_query(word)) for word in words])

    def _word_query(self, word: Word) -> Query:
        query = Query.term_query(self._engine_schema, word.field, word.text, "freq")
        return query if word.weight == 1 else Query.boost_query(query, word.weight)


def score_ceiling(searcher: tantivy.Searcher, words: Sequence[Word]) -> float:
    """What no score can exceed: each word as often as can be in the shortest document."""
    total = total_documents(searcher)
    frequencies = [searcher.doc_freq(word.field, word.text) for word in words]
    weights = (w.weight * _idf(total, n) for w, n in zip(words, frequencies, strict=True) if n)
    return math.fsum(weights) * (_K1 + 1) * _ROUNDING


def _idf(total: int, having: int) -> float:
    return math.log1p((total - having + 0.5) / (having + 0.5))


def _counted(words: list[str]) -> list[tuple[str, int]]:
    return list(islice(Counter(words).items(), MAX_QUERY_WORDS))
