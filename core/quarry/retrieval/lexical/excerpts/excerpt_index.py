"""The index of the beginnings of documents, in Tantivy."""

from pathlib import Path

from tantivy import Order

from quarry.filters import Filter
from quarry.retrieval.base import ExcerptQuery, Excerpts
from quarry.retrieval.lexical.bm25 import MIN_HEAP_BYTES_PER_THREAD, TantivyIndex
from quarry.retrieval.lexical.excerpts.tantivy_excerpts import DRAW, TITLE_LENGTH, ExcerptReader
from quarry.retrieval.lexical.tantivy_documents import count_hits
from quarry.retrieval.lexical.tantivy_filters import narrow_query
from quarry.schema import Schema


class TantivyExcerptIndex(TantivyIndex):
    """An ExcerptIndex in a folder of its own, which is kept as that of all text is."""

    holds_excerpts = True

    def __init__(self, folder: Path, generation: str, schema: Schema) -> None:
        super().__init__(folder, generation, schema, MIN_HEAP_BYTES_PER_THREAD)
        self._reader = ExcerptReader(self._engine_schema)

    def find_excerpts(self, query: ExcerptQuery, depth: int, filter: Filter | None) -> Excerpts:
        with self._open_reading() as searcher:
            wanted = self._reader.make_query(query)
            if filter is not None:
                wanted = narrow_query(wanted, self._filters.translate_condition(filter))
            order = TITLE_LENGTH if query.in_titles else DRAW
            found = searcher.search(wanted, depth, order_by_field=order, order=Order.Asc)
            return Excerpts(self._reader.read(searcher, found.hits), count_hits(found))
