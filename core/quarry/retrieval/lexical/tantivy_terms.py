"""Queries of terms as Tantivy queries: phrases, prefixes, near spellings, what must be there and what must
not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import NamedTuple

import tantivy
from tantivy import Occur, Query

from quarry.retrieval.lexical.analysis import build_cutter, build_surface_cutter, cut_phrase, cut_surfaces
from quarry.retrieval.lexical.clauses import FORM_SHARE, list_steps
from quarry.retrieval.lexical.near_words import FUZZY_SHARE, MAX_TYPOS, choose_distance, make_exact
from quarry.retrieval.lexical.tantivy_documents import count_documents, count_hits
from quarry.retrieval.lexical.tantivy_filters import narrow_query
from quarry.retrieval.lexical.tantivy_query import (
    K1,
    ROUNDING,
    BuiltQuery,
    TextQueryBuilder,
    compute_idf,
)
from quarry.retrieval.lexical.text_fields import TextField, list_own_fields, name_surface_field, scale_boosts
from quarry.retrieval.lexical.vocabulary_terms import arrange_terms
from quarry.retrieval.text_query import Occurrence, Term, TermKind, TextQuery
from quarry.schema import Schema

MAX_PHRASES = 32
"""Spellings of one phrase that are looked for."""
_BELOW = 1e-10
"""A score below that of any word which BM25 finds."""
_OCCURS = {
    Occurrence.OPTIONAL: Occur.Should,
    Occurrence.REQUIRED: Occur.Must,
    Occurrence.EXCLUDED: Occur.MustNot,
}


class _Scope(NamedTuple):
    """The fields where a term is looked for: by its words, which are scored, or by how they are written."""

    scored: Sequence[TextField]
    own: Sequence[TextField]


class TermQueryBuilder:
    """Builds queries of terms.

    Args:
        texts: builds the words of texts.
    """

    def __init__(self, texts: TextQueryBuilder, schema: Schema, engine_schema: tantivy.Schema) -> None:
        self._texts, self._schema, self._engine_schema = texts, schema, engine_schema
        self._own = list_own_fields(schema)

    def build(self, searcher: tantivy.Searcher, query: TextQuery, boost_scale: float) -> BuiltQuery:
        """Builds the query for the index as ``searcher`` sees it."""
        query = arrange_terms(query, self._schema)
        optional: list[BuiltQuery] = []
        scored: list[BuiltQuery] = []
        strict: list[tuple[Occur, Query]] = []
        for term in query.terms:
            scope = self._choose_scope(term, boost_scale)
            if term.occurs is Occurrence.OPTIONAL:
                optional.append(self._build_term(searcher, term, scope))
                if query.tolerates_typos:
                    optional += [built for _, built in self._build_typos(searcher, term, scope)]
            else:
                built = self._build_term(searcher, term, scope)
                strict.append((_OCCURS[term.occurs], built.query))
                scored += [built] if term.occurs is Occurrence.REQUIRED else []
        found = _match_any([built.query for built in optional if not built.distance])
        has_near = any(built.distance for built in optional)
        if has_near and not scored and searcher.search(found, 1, count=False).hits:
            queries = [_put_below(b.query, found) if b.distance else b.query for b in optional]
        else:
            queries = [built.query for built in optional]
        ceiling = math.fsum(built.ceiling for built in (*optional, *scored))
        return BuiltQuery(Query.boolean_query([*strict, *((Occur.Should, q) for q in queries)]), ceiling)

    def build_restriction(self, searcher: tantivy.Searcher, query: TextQuery) -> Query:
        """Builds what any document must match, however it was found."""
        query = arrange_terms(query, self._schema)
        strict = [term for term in query.terms if term.occurs is not Occurrence.OPTIONAL]
        parts = [
            (_OCCURS[term.occurs], self._build_term(searcher, term, self._choose_scope(term, 1.0)).query)
            for term in strict
        ]
        return Query.boolean_query([(Occur.Must, Query.all_query()), *parts])

    def _choose_scope(self, term: Term, boost_scale: float) -> "_Scope":
        own = (self._own[term.field],) if term.field else tuple(self._own.values())
        scored = own if term.field else scale_boosts(self._texts.fields, boost_scale)
        if term.languages:
            own, scored = (tuple(f for f in some if term.is_for(f.language)) for some in (own, scored))
        return _Scope(scored, own)

    def _build_term(self, searcher: tantivy.Searcher, term: Term, scope: "_Scope") -> BuiltQuery:
        match term.kind:
            case TermKind.PREFIX:
                built = self._build_surfaces(searcher, term, scope.own)
            case TermKind.FUZZY:
                exact = self._build_words(searcher, term.text, scope.scored)
                built = (
                    exact if _has_hit(searcher, exact) else self._build_surfaces(searcher, term, scope.own)
                )
            case TermKind.WORDS if term.is_optional_words:
                built = self._build_words(searcher, term.text, scope.scored)
            case TermKind.WORDS | TermKind.PHRASE:
                built = self._build_phrase(searcher, term.text, scope.scored)
        others = [self._build_phrase(searcher, other, scope.scored) for other in term.others]
        return _choose_best(built, [other for other in others if other.ceiling])

    def rewrite_query(self, searcher: tantivy.Searcher, query: TextQuery) -> TextQuery:
        """Rewrites a query as ``LexicalIndex.rewrite_query`` says."""
        terms: list[Term] = []
        for term in arrange_terms(query, self._schema).terms:
            scope = self._choose_scope(term, 1.0)
            if term.kind is not TermKind.FUZZY:
                terms.append(term)
                if query.tolerates_typos:
                    terms += [typo for typo, _ in self._build_typos(searcher, term, scope)]
            elif _has_hit(searcher, self._build_words(searcher, term.text, scope.scored)):
                terms.append(make_exact(term))
            else:
                near = self._build_surfaces(searcher, term, scope.own)
                terms += [replace(term, distance=near.distance)] if near.ceiling else []
        return TextQuery(tuple(terms))

    def _build_typos(
        self, searcher: tantivy.Searcher, term: Term, scope: "_Scope"
    ) -> Iterator[tuple[Term, BuiltQuery]]:
        """Builds near spellings of the optional words of a term that no document has."""
        if not term.is_optional_words or term.others:
            return
        for word in self._texts.list_words(term.text, {field.language for field in scope.own})[:MAX_TYPOS]:
            if not _has_hit(searcher, self._build_words(searcher, word, scope.scored)):
                typo = Term(word, TermKind.FUZZY, field=term.field)
                near = self._build_surfaces(searcher, typo, scope.own)
                if near.distance:
                    yield replace(typo, distance=near.distance), near

    def _build_words(self, searcher: tantivy.Searcher, text: str, fields: Sequence[TextField]) -> BuiltQuery:
        return self._texts.build(searcher, self._texts.list_clauses_in(text, fields))

    def _build_phrase(self, searcher: tantivy.Searcher, text: str, fields: Sequence[TextField]) -> BuiltQuery:
        """Builds what matches the words in a row, stop words included, in any of the fields.

        A phrase with a word that is too long for the index matches nothing.
        """
        built = [self._build_phrase_in(searcher, text, field) for field in fields]
        return BuiltQuery(_match_any([b.query for b in built]), math.fsum(b.ceiling for b in built))

    def _build_phrase_in(self, searcher: tantivy.Searcher, text: str, field: TextField) -> BuiltQuery:
        """Builds the phrase in one field: in each way in which its words are spelled there."""
        total = count_documents(searcher)
        steps: list[list[tuple[int, str]]] = []
        idf = 0.0
        parts = cut_phrase(build_cutter(field.language), text)
        for place, spellings in list_steps(parts, field.language):
            having = {term: n for term in spellings if (n := searcher.doc_freq(field.name, term))}
            if not having:
                return BuiltQuery(Query.empty_query(), 0.0)
            steps.append([(place, term) for term in having])
            idf += compute_idf(total, min(having.values()))
        ways = [list(way) for way in islice(product(*steps), MAX_PHRASES)] if steps else []
        queries = [self._make_way(field.name, way) for way in ways]
        if not queries:
            return BuiltQuery(Query.empty_query(), 0.0)
        query = queries[0] if len(queries) == 1 else Query.disjunction_max_query(queries)
        return BuiltQuery(Query.boost_query(query, field.weight), idf * field.weight * (K1 + 1) * ROUNDING)

    def _make_way(self, field: str, way: Sequence[tuple[int, str]]) -> Query:
        if len(way) == 1:  # the engine dies of a phrase of one word
            return Query.term_query(self._engine_schema, field, way[0][1], "freq")
        return Query.phrase_query(self._engine_schema, field, list(way))

    def _build_surfaces(
        self, searcher: tantivy.Searcher, term: Term, fields: Sequence[TextField]
    ) -> BuiltQuery:
        """Builds what has all words of the term in one field: the last one by its beginning, or each by a
        near spelling if the term is FUZZY.

        What is written without spaces has no words, and is looked for as it stands.
        """
        languages = {field.language for field in fields}
        cut = {name: cut_surfaces(build_surface_cutter(name), term.text) for name in languages}
        if not cut or not all(cut.values()):
            return self._build_phrase(searcher, term.text, fields)
        if term.kind is TermKind.PREFIX:
            return self._count(
                searcher, [self._match_prefix(f.sources[0], cut[f.language]) for f in fields], 1.0
            )
        farthest = term.distance or max(choose_distance(word) for words in cut.values() for word in words)
        for distance in range(1, farthest + 1):
            queries = [self._match_near(f.sources[0], cut[f.language], distance) for f in fields]
            found = self._count(searcher, queries, FUZZY_SHARE)
            if found.ceiling:
                return found._replace(distance=distance)
        return BuiltQuery(Query.empty_query(), 0.0)

    def _match_prefix(self, name: str, words: Sequence[str]) -> Query:
        field = name_surface_field(name)
        whole = [Query.term_query(self._engine_schema, field, word, "basic") for word in words[:-1]]
        return _match_all([*whole, Query.regex_query(self._engine_schema, field, f"{words[-1]}.*")])

    def _match_near(self, name: str, words: Sequence[str], distance: int) -> Query:
        field = name_surface_field(name)
        return _match_all([Query.fuzzy_term_query(self._engine_schema, field, w, distance) for w in words])

    def _count(self, searcher: tantivy.Searcher, queries: Sequence[Query], share: float) -> BuiltQuery:
        """Makes one word of what any of the queries matches: the engine scores no such query by itself.

        It counts as a word that stands once in a document of middling length. The ceiling is a word's, too:
        else what is found so would be merged as if it were the best possible match.
        """
        query = _match_any(queries)
        having = count_hits(searcher.search(query, 1))
        if not having:
            return BuiltQuery(Query.empty_query(), 0.0)
        idf = compute_idf(count_documents(searcher), having)
        return BuiltQuery(Query.const_score_query(query, share * idf), idf * (K1 + 1) * ROUNDING)


def _has_hit(searcher: tantivy.Searcher, built: BuiltQuery) -> bool:
    return bool(built.ceiling and searcher.search(built.query, 1, count=False).hits)


def _choose_best(built: BuiltQuery, others: Sequence[BuiltQuery]) -> BuiltQuery:
    """Lets a document count by the best of ``built`` and of what stands for it, which is worth no more."""
    if not others:
        return built
    shares = [
        FORM_SHARE * (min(1.0, built.ceiling / other.ceiling) if built.ceiling else 1.0) for other in others
    ]
    boosted = [Query.boost_query(o.query, share) for o, share in zip(others, shares, strict=True)]
    ceiling = max(built.ceiling, *(o.ceiling * share for o, share in zip(others, shares, strict=True)))
    return BuiltQuery(Query.disjunction_max_query([built.query, *boosted]), ceiling * ROUNDING)


def _put_below(near: Query, exact: Query) -> Query:
    """Lets ``near`` count in full only where something exact matches, and nearly nothing elsewhere."""
    return _match_any([narrow_query(near, exact), Query.const_score_query(near, _BELOW)])


def _match_any(queries: Sequence[Query]) -> Query:
    return Query.boolean_query([(Occur.Should, query) for query in queries])


def _match_all(queries: Sequence[Query]) -> Query:
    return queries[0] if len(queries) == 1 else Query.boolean_query([(Occur.Must, q) for q in queries])
