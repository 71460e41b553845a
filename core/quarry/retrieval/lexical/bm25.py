"""The lexical arm: BM25 in an embedded Tantivy index."""

import contextlib
import logging
import shutil
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

import tantivy
from tantivy import Occur, Order, Query

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import (
    DataLossError,
    DeadlineExceeded,
    DiskFullError,
    QuarryError,
    RetrieverUnavailableError,
)
from quarry.facets import Facet, FacetRequest
from quarry.filters import Filter
from quarry.retrieval.base import FIRST_DOCNO, LexicalResult, OrderedResult
from quarry.retrieval.lexical.analysis import VERSION as ANALYSIS
from quarry.retrieval.lexical.analysis import build_analyser, name_analyser, read_version
from quarry.retrieval.lexical.excerpts.tantivy_excerpts import EXCERPT_ANALYSER, build_excerpt_analyser
from quarry.retrieval.lexical.key_terms import find_key_terms
from quarry.retrieval.lexical.results.tantivy_facets import FacetCounter
from quarry.retrieval.lexical.results.tantivy_order import order_matching
from quarry.retrieval.lexical.tantivy_checksums import find_damaged_file
from quarry.retrieval.lexical.tantivy_documents import (
    DOCNO,
    KIND,
    MARKER,
    VERSION,
    DocumentMaker,
    count_documents,
    count_hits,
    find_beside_deleted,
    make_index_schema,
    make_marker_document,
    read_position,
)
from quarry.retrieval.lexical.tantivy_errors import ARM, translate_engine_errors, translate_opening_errors
from quarry.retrieval.lexical.tantivy_filters import FilterTranslator, match_any_term, narrow_query
from quarry.retrieval.lexical.tantivy_query import BuiltQuery, TextQueryBuilder
from quarry.retrieval.lexical.tantivy_terms import TermQueryBuilder
from quarry.retrieval.lexical.text_fields import list_text_fields
from quarry.retrieval.ordering import OrderBy
from quarry.retrieval.text_query import SearchText, TextQuery
from quarry.schema import Schema
from quarry.storage.disk import is_nearly_full
from quarry.types import Candidate, Change, Docno, Fields, Position

logger = logging.getLogger(__name__)

HEAP_BYTES = 64_000_000
MIN_HEAP_BYTES_PER_THREAD = 15_000_000
VERSIONS_AT_ONCE = 20_000
TIED_AT_ONCE = 256

_Hit = tuple[float, tantivy.DocAddress]


class TantivyIndex:
    """A LexicalIndex in a folder, which one index object at a time, of all processes, may write to.

    Reads see the last commit. A failed write loses what was applied since that commit, and raises: read
    ``position`` again and replay from there. Writes after that start a new writer.

    An index whose texts an older Quarry analysed otherwise is dropped, and begins at sequence 0: the log
    fills it again.

    Scores move a little with deletions: until segments merge, statistics count what was deleted.

    Args:
        folder: made if it is not there; deleting it is the way to rebuild.
        generation: which index this is.
        schema: what it indexes; a folder made for another schema cannot be opened.
        heap_bytes: memory for documents not yet written to a segment, at least 15 MB a thread.
        threads: how many index; one keeps up with Python on two cores.

    Raises:
        DataLossError: the folder holds another generation or schema, or a damaged index.
        RetrieverUnavailableError: another index object has the folder, or the system refuses it.
    """

    holds_excerpts = False
    """Whether it holds the beginnings of documents, in place of all their text."""

    def __init__(
        self, folder: Path, generation: str, schema: Schema, heap_bytes: int = HEAP_BYTES, threads: int = 1
    ) -> None:
        if threads < 1 or heap_bytes < threads * MIN_HEAP_BYTES_PER_THREAD:
            raise ValueError(f"{heap_bytes} bytes are too few for {threads} indexing threads")
        self._folder, self._heap_bytes, self._threads = folder, heap_bytes, threads
        with translate_opening_errors(str(folder)):
            _drop_outdated_index(folder)
            self._index = _open_index(folder, schema, self.holds_excerpts)
            self._engine_schema = self._index.schema
        self._documents = DocumentMaker(schema, self._engine_schema, self.holds_excerpts)
        self._queries = TextQueryBuilder(schema, self._engine_schema)
        self._terms = TermQueryBuilder(self._queries, schema, self._engine_schema)
        self._filters = FilterTranslator(schema, self._index)
        self._facets = FacetCounter(self._filters)
        self._writer: tantivy.IndexWriter | None = None
        self._closed = False
        with self._open_writing(), translate_opening_errors(str(folder)):
            self._searcher = self._index.searcher()
            position = read_position(self._searcher, self._engine_schema)
            self._last_docno = _read_last_docno(self._searcher)
        self._position = Position(generation, 0)
        if position is None:
            self.commit(0)
        elif position.generation != generation:
            self.close()
            raise DataLossError(f"the lexical index is of generation {position.generation}, not {generation}")
        else:
            self._position = position

    @property
    def position(self) -> Position:
        return self._position

    def apply(self, changes: Sequence[Change]) -> None:
        """Adds changes to the next commit. Commit every some 100 MB: what waits for indexing is in memory.

        Raises:
            InvalidArgumentError: a value is not of its field's type; nothing of ``changes`` was applied.
        """
        latest = {change.docno: change for change in changes}
        documents = [self._documents.make_document(c) for c in latest.values() if c.fields is not None]
        with self._open_writing() as writer:
            for docno in latest:
                if (
                    docno <= self._last_docno
                ):  # a new docno has nothing to delete, which spares bulk loads 13 %
                    writer.delete_documents_by_term(DOCNO, docno)
            for document in documents:
                writer.add_document(document.complete())
        self._last_docno = max(self._last_docno, *latest, -1)

    def commit(self, sequence: int) -> None:
        position = Position(self._position.generation, sequence)
        with self._open_writing() as writer:
            writer.delete_documents_by_term(KIND, MARKER)
            writer.add_document(make_marker_document(position))
            writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
        self._position = position

    def search(
        self, text: SearchText, depth: int, filter: Filter | None, boost_scale: float = 1.0
    ) -> LexicalResult:
        with self._open_reading() as searcher:
            built = self._build(searcher, text, boost_scale)
            candidates, total = _find_best(searcher, self._narrow(built.query, filter), depth)
            return LexicalResult(candidates, total, built.ceiling)

    def browse(self, depth: int, filter: Filter | None, first: Docno = FIRST_DOCNO) -> LexicalResult:
        with self._open_reading() as searcher:
            query = self._filters.match_documents(filter)
            total = count_hits(searcher.search(query, 1)) if first else None
            if first:
                query = narrow_query(query, self._make_range(first))
            found = searcher.search(query, max(depth, 1), order_by_field=DOCNO, order=Order.Asc)
            candidates = [Candidate(Docno(docno), 0.0) for docno, _ in found.hits[:depth]]
            return LexicalResult(candidates, count_hits(found) if total is None else total)

    def order(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        order: Sequence[OrderBy],
        hidden: Collection[Docno] = (),
    ) -> OrderedResult:
        with self._open_reading() as searcher:
            query = self._match(searcher, text, filter, hidden)
            return order_matching(searcher, self._engine_schema, query, depth, order)

    def count_facets(
        self,
        text: SearchText,
        filter: Filter | None,
        facets: Sequence[FacetRequest],
        hidden: Collection[Docno] = (),
        limit: Deadline = NO_LIMIT,
    ) -> list[Facet]:
        with self._open_reading() as searcher:
            query = self._match(searcher, text, filter, hidden)
            return self._facets.count(searcher, query, facets, limit)

    def score_documents(
        self, text: SearchText, docnos: Collection[Docno], boost_scale: float = 1.0
    ) -> dict[Docno, float]:
        with self._open_reading() as searcher:
            if not docnos:
                return {}
            return self._score_given(searcher, self._make_query(searcher, text, boost_scale), docnos)

    def rewrite_query(self, query: TextQuery) -> TextQuery:
        with self._open_reading() as searcher:
            return self._terms.rewrite_query(searcher, query)

    def keep_admitted(self, query: TextQuery, docnos: Collection[Docno]) -> Set[Docno]:
        with self._open_reading() as searcher:
            if not docnos:
                return set()
            return self._score_given(searcher, self._terms.build_restriction(searcher, query), docnos).keys()

    def find_key_terms(self, fields: Fields, most: int) -> list[str]:
        with self._open_reading() as searcher:
            texts = self._queries.list_texts()
            return find_key_terms(fields, texts, searcher.doc_freq, count_documents(searcher), most)

    def read_versions(self) -> Iterator[tuple[Docno, int]]:
        with self._open_reading() as searcher:
            return self._read_versions(searcher)

    def find_damage(self, deadline: Deadline) -> str:
        def go_on() -> None:
            if self._closed:
                raise RetrieverUnavailableError(ARM, "the index is closed")
            if not deadline.remaining_s:
                raise DeadlineExceeded("there was not time enough to read all files of the lexical index")

        return find_damaged_file(self._folder, go_on)

    def find_beside_deleted(self, thorough: bool = False) -> list[Docno]:
        with self._open_reading() as searcher:
            return find_beside_deleted(searcher, thorough)

    def close(self) -> None:
        self._closed = True
        self._writer = None  # dropping it ends its threads and releases the folder

    def _match(
        self, searcher: tantivy.Searcher, text: SearchText, filter: Filter | None, hidden: Collection[Docno]
    ) -> Query:
        """Makes the query of what matches ``text``, or all for an empty one, and passes; nothing hidden."""
        if text:
            query = self._narrow(self._make_query(searcher, text), filter)
        else:
            query = self._filters.match_documents(filter)
        if not hidden:
            return query
        return Query.boolean_query(
            [(Occur.Must, query), (Occur.MustNot, match_any_term(self._engine_schema, DOCNO, hidden))]
        )

    def _build(self, searcher: tantivy.Searcher, text: SearchText, boost_scale: float = 1.0) -> BuiltQuery:
        """Builds the query of all that match ``text``; its ceiling is 0 if nothing can."""
        if not isinstance(text, str):
            return self._terms.build(searcher, text, boost_scale)
        return self._queries.build(searcher, self._queries.list_clauses(text, boost_scale))

    def _make_query(self, searcher: tantivy.Searcher, text: SearchText, boost_scale: float = 1.0) -> Query:
        """Makes the same query without its ceiling, which takes a look at how rare each word is."""
        if not isinstance(text, str):
            return self._terms.build(searcher, text, boost_scale).query
        return self._queries.make_query(searcher, self._queries.list_clauses(text, boost_scale))

    def _narrow(self, query: Query, filter: Filter | None) -> Query:
        return query if filter is None else narrow_query(query, self._filters.translate_condition(filter))

    def _score_given(
        self, searcher: tantivy.Searcher, query: Query, docnos: Collection[Docno]
    ) -> dict[Docno, float]:
        query = narrow_query(query, match_any_term(self._engine_schema, DOCNO, docnos))
        return dict(_read_docnos(searcher, searcher.search(query, len(docnos), count=False).hits))

    def _make_range(self, first: int) -> Query:
        """Makes the query that every document from docno ``first`` on matches."""
        return Query.range_query(self._engine_schema, DOCNO, tantivy.FieldType.Integer, first)

    def _read_versions(self, searcher: tantivy.Searcher) -> Iterator[tuple[Docno, int]]:
        following = 0
        while True:
            with translate_engine_errors():
                found = searcher.search(
                    self._make_range(following),
                    VERSIONS_AT_ONCE,
                    count=False,
                    order_by_field=DOCNO,
                    order=Order.Asc,
                )
                versions = searcher.fast_field_values(VERSION, [address for _, address in found.hits])
            yield from (
                (Docno(docno), int(v or 0)) for (docno, _), v in zip(found.hits, versions, strict=True)
            )
            if len(found.hits) < VERSIONS_AT_ONCE:
                return
            following = found.hits[-1][0] + 1

    @contextmanager
    def _open_reading(self) -> Iterator[tantivy.Searcher]:
        if self._closed:
            raise RetrieverUnavailableError(ARM, "the index is closed")
        with translate_engine_errors():
            yield self._searcher

    @contextmanager
    def _open_writing(self) -> Iterator[tantivy.IndexWriter]:
        if self._closed:
            raise RetrieverUnavailableError(ARM, "the index is closed")
        try:
            with translate_engine_errors():
                if self._writer is None:
                    self._writer = self._index.writer(self._heap_bytes, self._threads)
                yield self._writer
        except BaseException as error:
            self._end_writer()
            # what an indexing thread died of is not told
            if isinstance(error, RetrieverUnavailableError) and is_nearly_full(self._folder):
                raise DiskFullError(f"the disk that holds the {ARM} index is full: {error}") from error
            raise

    def _end_writer(self) -> None:
        """Ends a writer that has failed: it would take further documents and drop them without a word.

        Dropping our reference is not enough: the failure's traceback refers to the writer, too, and would
        keep the folder locked until somebody collects the garbage.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            # takes the engine's writer out of the binding's object; it fails as the writer has
            with contextlib.suppress(QuarryError), translate_engine_errors():
                writer.wait_merging_threads()


def _drop_outdated_index(folder: Path) -> None:
    version = read_version(folder)
    if version not in (None, ANALYSIS):
        logger.warning(
            "the lexical index in %s is built anew from the log: its texts were analysed in way %s, and now"
            " they are in way %s",
            folder,
            version,
            ANALYSIS,
        )
        shutil.rmtree(folder)


def _open_index(folder: Path, schema: Schema, excerpts: bool) -> tantivy.Index:
    folder.mkdir(parents=True, exist_ok=True)
    index = tantivy.Index(make_index_schema(schema, excerpts), path=str(folder))
    index.register_tokenizer(EXCERPT_ANALYSER, build_excerpt_analyser())
    for language in {field.language for field in list_text_fields(schema)}:
        index.register_tokenizer(name_analyser(language), build_analyser(language))
        index.register_tokenizer(name_analyser(language, stems=False), build_analyser(language, stems=False))
    index.config_reader("manual")
    return index


def _read_last_docno(searcher: tantivy.Searcher) -> int:
    hits = searcher.search(Query.exists_query(DOCNO), 1, order_by_field=DOCNO).hits
    return int(hits[0][0]) if hits else -1


def _find_best(searcher: tantivy.Searcher, query: Query, depth: int) -> tuple[list[Candidate], int]:
    """Finds the best by score, then docno, and how many match.

    The engine breaks ties its own way, so all that tie with the last one are read before the cut.
    """
    limit = max(depth, 1) + TIED_AT_ONCE
    found = searcher.search(query, limit)
    hits, total = found.hits, count_hits(found)
    while depth > 0 and total > limit and hits[-1][0] == hits[depth - 1][0]:
        limit *= 4
        hits = searcher.search(query, limit, count=False).hits
    if 0 < depth < len(hits):
        worst = hits[depth - 1][0]
        hits = hits[: bisect_right(hits, -worst, key=lambda hit: -hit[0])]
    best = sorted((-score, docno) for docno, score in _read_docnos(searcher, hits))[:depth]
    return [Candidate(docno, -negative) for negative, docno in best], total


def _read_docnos(searcher: tantivy.Searcher, hits: Sequence[_Hit]) -> Iterator[tuple[Docno, float]]:
    docnos = searcher.fast_field_values(DOCNO, [address for _, address in hits])
    return ((Docno(int(docno or 0)), score) for docno, (score, _) in zip(docnos, hits, strict=True))
