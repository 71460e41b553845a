"""Text that a user typed as a Tantivy query: analysed and built, never parsed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tantivy
from tantivy import Occur, Query

from quarry.retrieval.lexical.analysis import QueryAnalyser, compose
from quarry.retrieval.lexical.tantivy_documents import count_documents
from quarry.retrieval.lexical.text_fields import list_text_fields, scale_boosts
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
        weight: what its BM25 is multiplied by: the field's.
    """

    field: str
    text: str
    weight: float


class TextQueryBuilder:
    """Builds BM25 queries: a document's score is the sum of those of its words in all text fields."""

    def __init__(self, schema: Schema, engine_schema: tantivy.Schema) -> None:
        self._engine_schema = engine_schema
        self._fields = list_text_fields(schema)
        self._analysers = {field.language: QueryAnalyser(field.language) for field in self._fields}

    def list_words(self, text: str, boost_scale: float = 1.0) -> list[Word]:
        """Lists the words of ``text`` in each field, each once; none if nothing can match.

        Counting a word as often as the query has it ranked worse on five collections of six.
        """
        text = compose(text)
        words = {
            language: list(dict.fromkeys(analyser.split_words(text)))[:MAX_QUERY_WORDS]
            for language, analyser in self._analysers.items()
        }
        fields = scale_boosts(self._fields, boost_scale)
        return [Word(field.name, word, field.weight) for field in fields for word in words[field.language]]

    def make_query(self, words: Sequence[Word]) -> Query:
        return Query.boolean_query([(Occur.Should, self._make_word_query(word)) for word in words])

    def _make_word_query(self, word: Word) -> Query:
        query = Query.term_query(self._engine_schema, word.field, word.text, "freq")
        return query if word.weight == 1 else Query.boost_query(query, word.weight)


def compute_score_ceiling(searcher: tantivy.Searcher, words: Sequence[Word]) -> float:
    """Computes what no score can exceed: each word as often as can be in the shortest document."""
    total = count_documents(searcher)
    frequencies = [searcher.doc_freq(word.field, word.text) for word in words]
    weights = (w.weight * _compute_idf(total, n) for w, n in zip(words, frequencies, strict=True) if n)
    return math.fsum(weights) * (_K1 + 1) * _ROUNDING


def _compute_idf(total: int, having: int) -> float:
    return math.log1p((total - having + 0.5) / (having + 0.5))
