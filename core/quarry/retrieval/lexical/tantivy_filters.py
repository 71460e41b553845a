"""Filters in Tantivy's terms; ``quarry.filters.matches`` says what they mean."""

from collections.abc import Collection
from typing import assert_never

import tantivy
from tantivy import Occur, Query

from quarry.filters import AllOf, AnyOf, EqualTo, Exists, Filter, NoneOf, OneOf, Prefix, Range
from quarry.retrieval.lexical.tantivy_documents import DOCUMENT, KIND, make_keyword_term
from quarry.schema import FieldType, Schema
from quarry.types import FieldScalar

_NUMBERS = {
    FieldType.INTEGER: tantivy.FieldType.Integer,
    FieldType.TIMESTAMP: tantivy.FieldType.Integer,
    FieldType.FLOAT: tantivy.FieldType.Float,
}
_TERMS_LOOKED_UP = 256
"""Up to here looking up each term beats Tantivy's walk through the dictionary: tenfold for 100 docnos."""
_AFTER_HEX = "g"
"""Sorts after every hexadecimal digit, so it ends the range of keywords that share a prefix."""


class FilterTranslator:
    """Turns checked filters into queries that match the same documents."""

    def __init__(self, schema: Schema, index: tantivy.Index) -> None:
        self._index = index
        self._engine_schema = index.schema
        self._types = {field.name: field.type for field in schema.filterable}

    def get_type(self, name: str) -> FieldType:
        """Returns the type of a filterable field."""
        return self._types[name]

    def match_documents(self, filter: Filter | None) -> Query:
        """Matches the documents that pass ``filter``, or all for None; never the marker."""
        documents = Query.term_query(self._engine_schema, KIND, DOCUMENT, "basic")
        return documents if filter is None else _match_all(documents, self.translate_condition(filter))

    def translate_condition(self, filter: Filter) -> Query:
        """Translates what passes ``filter``, with the marker where it lacks a field; for ``narrow_query``."""
        match filter:
            case AllOf(filters):
                return _match_all(*map(self.translate_condition, filters)) if filters else Query.all_query()
            case AnyOf(filters):
                return Query.boolean_query([(Occur.Should, self.translate_condition(f)) for f in filters])
            case NoneOf(filters):
                excluded = [(Occur.MustNot, self.translate_condition(f)) for f in filters]
                return Query.boolean_query([(Occur.Must, Query.all_query()), *excluded])
            case EqualTo(name, value):
                return self._match_one_of(name, (value,))
            case OneOf(name, values):
                return self._match_one_of(name, values)
            case Exists(name):
                return Query.exists_query(name)
            case Prefix(name, prefix):
                low = make_keyword_term(prefix)
                return self._match_keywords_between(name, f"[{low}", f"{low}{_AFTER_HEX}}}")
            case Range():
                return self._match_range(filter)
            case _:
                assert_never(filter)

    def _match_one_of(self, name: str, values: tuple[FieldScalar, ...]) -> Query:
        terms = [make_keyword_term(value) if isinstance(value, str) else value for value in values]
        return match_any_term(self._engine_schema, name, terms)

    def _match_range(self, bounds: Range) -> Query:
        low = bounds.gte if bounds.gt is None else bounds.gt
        high = bounds.lte if bounds.lt is None else bounds.lt
        if self._types[bounds.field] is FieldType.KEYWORD:
            return self._match_keywords_between(
                bounds.field,
                "[*" if low is None else ("[" if bounds.gt is None else "{") + make_keyword_term(str(low)),
                "*]" if high is None else make_keyword_term(str(high)) + ("]" if bounds.lt is None else "}"),
            )
        kind = _NUMBERS[self._types[bounds.field]]
        return Query.range_query(
            self._engine_schema, bounds.field, kind, low, high, bounds.gt is None, bounds.lt is None
        )

    def _match_keywords_between(self, name: str, low: str, high: str) -> Query:
        return self._index.parse_query(f"{name}:{low} TO {high}", [name])


def match_any_term(engine_schema: tantivy.Schema, field: str, terms: Collection[FieldScalar]) -> Query:
    """Matches the documents with one of these terms in ``field``."""
    if len(terms) > _TERMS_LOOKED_UP:
        return Query.term_set_query(engine_schema, field, list(terms))
    queries = (Query.term_query(engine_schema, field, term, "basic") for term in terms)
    return Query.boolean_query([(Occur.Should, query) for query in queries])


def narrow_query(query: Query, condition: Query) -> Query:
    """Narrows ``query``, with its own scores, to where ``condition`` holds too."""
    return _match_all(query, Query.const_score_query(condition, 0.0))


def _match_all(*queries: Query) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])
