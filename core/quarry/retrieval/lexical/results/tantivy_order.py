"""Documents ordered by fields in Tantivy; ``quarry.retrieval.ordering.sort_by_fields`` is what it means."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import tantivy
from tantivy import Order, Query

from quarry.retrieval.base import OrderedResult
from quarry.retrieval.lexical.tantivy_documents import DOCNO, count_hits
from quarry.retrieval.lexical.tantivy_filters import match_any_term
from quarry.retrieval.ordering import MAX_ORDERED, OrderBy, sort_by_fields
from quarry.types import Docno, FieldScalar

TIED_AT_ONCE = 256
_Value = FieldScalar | None


def order_matching(
    searcher: tantivy.Searcher,
    engine_schema: tantivy.Schema,
    query: Query,
    depth: int,
    order: Sequence[OrderBy],
) -> OrderedResult:
    """Orders what ``query`` matches, as ``LexicalIndex.order`` says.

    The engine orders by one field, missing values last, and breaks ties its own way. So all that tie with the
    last one are read, and are ordered by the other fields here.
    """
    first, *others = order
    limit = min(depth + TIED_AT_ONCE, MAX_ORDERED)
    while True:
        values, total = _read_ordered(searcher, query, limit, first)
        found = list(values.items())
        complete = len(found) < limit or limit == MAX_ORDERED or found[-1][1] != found[depth - 1][1]
        if complete:
            break
        limit = min(4 * limit, MAX_ORDERED)
    last = found[min(depth, len(found)) - 1][1] if found else None
    end = next((n for n in range(depth, len(found)) if found[n][1] != last), len(found))
    docnos = sorted(docno for docno, _ in found[:end])
    read = {first.field: values}
    for by in others:
        given = match_any_term(engine_schema, DOCNO, docnos)
        read[by.field] = _read_ordered(searcher, given, max(1, len(docnos)), by)[0]
    ordered = sort_by_fields(docnos, order, lambda docno, name: read[name][docno])
    return OrderedResult(list(_cut_ties(ordered, depth, order, read)), total)


def _read_ordered(
    searcher: tantivy.Searcher, query: Query, limit: int, by: OrderBy
) -> tuple[dict[Docno, _Value], int]:
    """Reads the values of the first documents in this order, and how many match."""
    direction = Order.Desc if by.descending else Order.Asc
    found = searcher.search(query, limit, order_by_field=by.field, order=direction)
    docnos = searcher.fast_field_values(DOCNO, [address for _, address in found.hits])
    values = {Docno(int(docno or 0)): value for docno, (value, _) in zip(docnos, found.hits, strict=True)}
    return values, count_hits(found)


def _cut_ties(
    ordered: Sequence[Docno], depth: int, order: Sequence[OrderBy], read: dict[str, dict[Docno, _Value]]
) -> Iterator[tuple[Docno, ...]]:
    """Cuts the list into documents with equal values, until there are ``depth``."""
    given = 0
    for _, tie in groupby(ordered, lambda docno: [read[by.field][docno] for by in order]):
        if given >= depth:
            return
        docnos = tuple(tie)
        given += len(docnos)
        yield docnos
