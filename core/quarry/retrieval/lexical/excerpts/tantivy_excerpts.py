"""The beginnings of documents in Tantivy: their fields, and the queries that find them."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import tantivy
from tantivy import Occur, Query

from quarry.retrieval.base import Excerpt, ExcerptQuery, TypedWord
from quarry.retrieval.lexical.analysis import name_analyser
from quarry.retrieval.lexical.excerpts.excerpts import (
    TOLERANT_FROM,
    ExcerptMaker,
    compute_draw,
    compute_title_length,
)
from quarry.retrieval.lexical.folded_words import fold_text, list_words
from quarry.schema import Schema
from quarry.types import Change, Docno

# No field of a collection begins with an underscore.
TITLE_WORDS, TEXT_WORDS, STORED = "_title_words", "_excerpt_words", "_excerpt"
TITLE_LENGTH, DRAW = "_title_length", "_draw"
EXCERPT_ANALYSER = name_analyser("surface")
"""Named as in the indexes that are there, for none can be opened with another name."""
MAX_WORD_BYTES = 64

SHORT = 2
"""Letters of the beginnings that are terms by themselves: to gather all words with one takes 8 ms."""
_BEGINNING, _FIRST, _FIRST_BEGINNING = "<", "^", "^<"
"""Stand before the beginning of a word, the first word of a title, and the beginning of that."""


def add_excerpt_fields(builder: tantivy.SchemaBuilder) -> None:
    """Adds the fields to an index. Nothing needs the positions of words, for what is found is read."""
    builder.add_text_field(TITLE_WORDS, tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field(TEXT_WORDS, tokenizer_name=EXCERPT_ANALYSER, index_option="basic")
    builder.add_bytes_field(STORED, stored=True)
    builder.add_integer_field(TITLE_LENGTH, fast=True)
    builder.add_integer_field(DRAW, fast=True)


def build_excerpt_analyser() -> tantivy.TextAnalyzer:
    """Builds the analyser of runs of letters and digits, in small letters without accents."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(MAX_WORD_BYTES + 1))
    return builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold()).build()


class ExcerptValues:
    """Makes the values of the fields for documents."""

    def __init__(self, schema: Schema) -> None:
        self._maker = ExcerptMaker(schema)

    def make_values(self, change: Change) -> dict[str, Any]:
        excerpt = self._maker.make_excerpt(change)
        texts = [excerpt.title, *excerpt.texts]
        values: dict[str, Any] = {
            TEXT_WORDS: [text if text.isascii() else fold_text(text) for text in texts],
            STORED: orjson.dumps(texts),
            DRAW: compute_draw(change.docno),
        }
        words = list_words(fold_text(excerpt.title))
        if words:
            values[TITLE_WORDS] = " ".join(_list_title_terms(words))
            values[TITLE_LENGTH] = compute_title_length(words)
        return values


def _list_title_terms(words: list[str]) -> list[str]:
    beginnings = {_BEGINNING + word[:length] for word in words for length in range(1, SHORT + 1)}
    first = [_FIRST + words[0], *(_FIRST_BEGINNING + words[0][:length] for length in range(1, SHORT + 1))]
    return [*words, *first, *beginnings]


class ExcerptReader:
    """Makes queries for the beginnings of documents, and reads what they find."""

    def __init__(self, engine_schema: tantivy.Schema) -> None:
        self._engine_schema = engine_schema
        self._analyser = build_excerpt_analyser()

    def make_query(self, query: ExcerptQuery) -> Query:
        if query.in_titles:
            found = [self._match_in_title(word, query.tolerant) for word in query.words]
            if query.begins:
                found.append(self._match_first(query.words[0]))
        else:
            found = [part for word in query.words for part in self._match_in_text(word, query.tolerant)]
        return Query.boolean_query([(Occur.Must, part) for part in found]) if found else Query.empty_query()

    def read(
        self, searcher: tantivy.Searcher, hits: Sequence[tuple[Any, tantivy.DocAddress]]
    ) -> list[Excerpt]:
        """Reads the beginnings of the documents at these places."""
        addresses = [address for _, address in hits]
        docnos = searcher.fast_field_values("_docno", addresses)
        versions = searcher.fast_field_values("_version", addresses)
        excerpts = []
        for docno, version, address in zip(docnos, versions, addresses, strict=True):
            title, *texts = orjson.loads(bytes(searcher.doc(address)[STORED][0]))
            excerpts.append(Excerpt(Docno(int(docno or 0)), int(version or 0), title, tuple(texts)))
        return excerpts

    def _match_in_title(self, word: TypedWord, tolerant: bool) -> Query:
        if not word.ends and len(word.text) <= SHORT:
            return self._match_term(TITLE_WORDS, _BEGINNING + word.text)
        return self._match(TITLE_WORDS, word.text, word.ends, tolerant)

    def _match_first(self, word: TypedWord) -> Query:
        if not word.ends and len(word.text) <= SHORT:
            return self._match_term(TITLE_WORDS, _FIRST_BEGINNING + word.text)
        return self._match(TITLE_WORDS, _FIRST + word.text, word.ends, tolerant=False)

    def _match_in_text(self, word: TypedWord, tolerant: bool) -> Iterator[Query]:
        pieces = self._analyser.analyze(word.text)
        for number, piece in enumerate(pieces, start=1):
            yield self._match(TEXT_WORDS, piece, word.ends or number < len(pieces), tolerant)

    def _match(self, field: str, text: str, ends: bool, tolerant: bool) -> Query:
        distance = 1 if tolerant and len(text) >= TOLERANT_FROM else 0
        if ends and not distance:
            return self._match_term(field, text)
        return Query.fuzzy_term_query(self._engine_schema, field, text, distance, prefix=not ends)

    def _match_term(self, field: str, text: str) -> Query:
        return Query.term_query(self._engine_schema, field, text, "basic")
