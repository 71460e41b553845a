"""A lexical index in memory: exact, slow, and the reference for the contract that all of them keep."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from quarry.deadline import Deadline
from quarry.filters import Filter, matches
from quarry.retrieval.base import FIRST_DOCNO, LexicalResult
from quarry.retrieval.lexical.text_fields import list_text_fields, scale_boosts
from quarry.schema import Schema, as_list
from quarry.types import Candidate, Change, Docno, Fields, Position

K1, B = 1.2, 0.75


class MemoryLexicalIndex:
    """BM25 over lowercased words, without stemming, summed over text fields; nothing outlives the object.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, with Lucene's idf, which is
    never negative.
    """

    def __init__(self, generation: str, schema: Schema) -> None:
        self._fields = list_text_fields(schema)
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
            field.name: {n: _count_words(c.fields, field.sources) for n, c in self._documents.items()}
            for field in self._fields
        }
        self._pending = {}
        self._position = Position(self._position.generation, sequence)

    def search(self, text: str, depth: int, filter: Filter | None, boost_scale: float = 1.0) -> LexicalResult:
        scores = self.score_documents(text, self._list_passing(filter), boost_scale)
        best = sorted(scores, key=lambda docno: (-scores[docno], docno))[:depth]
        candidates = [Candidate(docno, scores[docno]) for docno in best]
        return LexicalResult(candidates, len(scores), self._compute_ceiling(set(_split(text)), boost_scale))

    def browse(self, depth: int, filter: Filter | None, first: Docno = FIRST_DOCNO) -> LexicalResult:
        passing = sorted(self._list_passing(filter))
        listed = [docno for docno in passing if docno >= first][:depth]
        return LexicalResult([Candidate(docno, 0.0) for docno in listed], len(passing))

    def score_documents(
        self, text: str, docnos: Collection[Docno], boost_scale: float = 1.0
    ) -> dict[Docno, float]:
        asked = set(_split(text))
        fields = scale_boosts(self._fields, boost_scale)
        found = {n for n in docnos for f in fields if asked & self._words.get(f.name, {}).get(n, {}).keys()}
        return {
            docno: math.fsum(
                field.weight * self._score_bm25(self._words[field.name], word, docno)
                for field in fields
                for word in asked
            )
            for docno in found
        }

    def read_versions(self) -> Iterator[tuple[Docno, int]]:
        return iter([(docno, change.version) for docno, change in self._documents.items()])

    def find_damage(self, deadline: Deadline) -> str:
        return ""

    def close(self) -> None:
        self._pending = {}

    def _list_passing(self, filter: Filter | None) -> list[Docno]:
        return [n for n, c in self._documents.items() if filter is None or matches(filter, c.fields or {})]

    def _compute_ceiling(self, asked: set[str], boost_scale: float) -> float:
        return math.fsum(
            field.weight * _compute_idf(self._words[field.name], word) * (K1 + 1)
            for field in scale_boosts(self._fields, boost_scale)
            for word in asked
            if any(word in words for words in self._words.get(field.name, {}).values())
        )

    def _score_bm25(self, field: dict[Docno, Counter[str]], word: str, docno: Docno) -> float:
        frequency, length = field[docno][word], field[docno].total()
        average = sum(words.total() for words in field.values()) / len(field)
        return (
            _compute_idf(field, word)
            * frequency
            * (K1 + 1)
            / (frequency + K1 * (1 - B + B * length / (average or 1)))
        )


def _compute_idf(field: dict[Docno, Counter[str]], word: str) -> float:
    having = sum(word in words for words in field.values())
    return math.log1p((len(field) - having + 0.5) / (having + 0.5))


def _count_words(fields: Fields | None, names: Sequence[str]) -> Counter[str]:
    values = (value for name in names for value in as_list((fields or {}).get(name)))
    return Counter(word for value in values for word in _split(value))


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
