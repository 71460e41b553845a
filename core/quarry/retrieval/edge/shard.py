"""One Qdrant Edge shard: documents in, candidates out. Every call blocks and holds the GIL."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import qdrant_edge as edge
from cachetools import LRUCache
from numpy.typing import NDArray

from quarry.filters import Filter
from quarry.retrieval.edge.conditions import Condition, EdgeConditions
from quarry.retrieval.edge.store_settings import VECTOR, GraphPolicy, StoreSettings
from quarry.retrieval.points import (
    Fetch,
    Hits,
    Part,
    StoredPoint,
    collect_documents,
    make_point_id,
    read_docno,
    read_passage,
)
from quarry.retrieval.qdrant_filters import (
    find_string_ranges,
    list_field_types,
    spell_out,
    to_payload_key,
    to_stored_fields,
    translate,
)
from quarry.schema import FieldType
from quarry.types import Candidate, Docno

DOCNO = "_docno"
VERSION = "_version"  # only point 0 of a document has it, so these points count documents
ALL_VALUES = 2**31
MAX_GRAPH_LIMIT = 2_000  # above it the graph costs more than looking at every vector
COUNTED_FILTERS = 256
VACUUM_SHARE, VACUUM_POINTS = 0.2, 1_000
"""A build copies a segment anew when so large a part of its points is deleted, and it has so many."""


def _make_field_index(kind: FieldType) -> "edge.PayloadSchemaParams":
    match kind:
        case FieldType.KEYWORD:
            return edge.KeywordIndexParams(prefix=True)
        case FieldType.INTEGER | FieldType.BOOLEAN:
            return edge.IntegerIndexParams(lookup=True, range=True)
        case FieldType.FLOAT:
            return edge.FloatIndexParams()
        case FieldType.TIMESTAMP:
            return edge.DatetimeIndexParams()
    raise ValueError(f"a {kind} field cannot be filtered on")


def _make_config(dimension: int, graph: GraphPolicy, segments: int) -> edge.EdgeConfig:
    """Makes the config of a shard with so many segments, which is what search threads read side by side.

    With one thread the engine hands nothing over, which takes a fifth off a search of few points. The
    number is kept with the shard, so it is always given.
    """
    return edge.EdgeConfig(
        max_search_threads=max(1, min(segments, os.cpu_count() or 1)),
        vectors={VECTOR: edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)},
        hnsw_config=edge.HnswIndexConfig(
            m=graph.m,
            ef_construct=graph.ef_construct,
            full_scan_threshold=graph.indexing_threshold_kb,
            max_indexing_threads=graph.threads,
        ),
        optimizers=edge.EdgeOptimizersConfig(
            indexing_threshold=graph.indexing_threshold_kb,
            deleted_threshold=VACUUM_SHARE,  # given each time: a build that erases has kept another one
            vacuum_min_vector_number=VACUUM_POINTS,
        ),
        wal_enabled=True,  # its lock keeps a second process out, and the engine is built to recover from it
    )


class Shard:
    """A shard that is open in this process.

    Args:
        engine: the open shard.
        settings: its store's.
    """

    def __init__(self, engine: edge.EdgeShard, settings: StoreSettings) -> None:
        self._engine = engine
        self._types = list_field_types(settings.fields)
        self._graph = settings.graph
        self._conditions = EdgeConditions()
        self._counts: LRUCache[Filter, tuple[int, int]] = LRUCache(COUNTED_FILTERS)
        info = engine.info()
        self._written = 0
        self.pending = max(0, info.points_count - info.indexed_vectors_count)

    @classmethod
    def create(cls, path: Path, settings: StoreSettings) -> "Shard":
        """Creates an empty shard with all its payload indexes: the engine does not index what came before
        one."""
        path.mkdir(parents=True)
        engine = edge.EdgeShard.create(str(path), _make_config(settings.dimension, settings.graph, 1))
        numbers = edge.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)
        create_index = edge.UpdateOperation.create_field_index
        for key in (DOCNO, VERSION):
            engine.update(create_index(key, numbers))
        for name, kind in list_field_types(settings.fields).items():
            engine.update(create_index(to_payload_key(name), _make_field_index(kind)))
        engine.flush()
        return cls(engine, settings)

    @classmethod
    def load(cls, path: Path, settings: StoreSettings) -> "Shard":
        """Loads an existing shard. The engine raises a plain Exception with WouldBlock in it while it is
        locked."""
        segments = sum(1 for _ in path.glob("segments/*"))
        config = _make_config(settings.dimension, settings.graph, segments)
        return cls(edge.EdgeShard.load(str(path), config), settings)

    # writing

    def apply(self, parts: Sequence[Part]) -> None:
        """Deletes what the documents that begin here had and have no more, then writes their points."""
        opened = [part for part in parts if part.first == 0]
        points = [point for part in parts for point in self._make_points(part)]
        self._delete_outdated(opened)
        if points:
            self._engine.update(edge.UpdateOperation.upsert_points(points))
        self._written += len(points) + len(opened)
        self.pending += len(points)

    def _delete_outdated(self, parts: Sequence[Part]) -> None:
        if not parts:
            return
        kept = {make_point_id(part.docno, n) for part in parts for n in range(_count_points(part))}
        outdated = edge.Filter(
            must=[self._conditions.has_value(DOCNO, [int(part.docno) for part in parts])],
            must_not=[self._conditions.has_id(kept)],
        )
        self._engine.update(edge.UpdateOperation.delete_points_by_filter(outdated))

    def _make_points(self, part: Part) -> Iterator[edge.Point]:
        if part.vectors is None:
            return
        payload: dict[str, object] = {**to_stored_fields(part.fields, self._types), DOCNO: int(part.docno)}
        if part.first == 0:
            head = {**payload, VERSION: part.version}
            vector = {VECTOR: part.vectors[0].tolist()} if part.total else {}
            yield edge.Point(make_point_id(part.docno, 0), vector, head)
        for row, values in enumerate(part.vectors.tolist()):
            if part.first + row > 0:
                yield edge.Point(make_point_id(part.docno, part.first + row), {VECTOR: values}, payload)

    def flush(self) -> None:
        self._engine.flush()

    def close(self) -> None:
        self._engine.close()

    def find_nearest(self, vector: NDArray[np.float32], depth: int, filter: Filter | None) -> list[Candidate]:
        """Does the same as ``DenseStore.find_nearest``."""
        if depth <= 0:
            return []
        condition = None if filter is None else self._make_condition(filter)
        exact = filter is not None and self._count_matching(filter, condition) < self._graph.exact_below
        query, rounds = vector.tolist(), collect_documents(depth)
        fetch = next(rounds)
        while True:
            try:
                fetch = rounds.send(self._fetch(query, fetch, condition, exact))
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # StopIteration is not generic

    def _fetch(self, query: list[float], fetch: Fetch, condition: Condition | None, exact: bool) -> Hits:
        found = [self._conditions.has_value(DOCNO, list(map(int, fetch.found)))] if fetch.found else None
        filter = edge.Filter(must=None if condition is None else [condition], must_not=found)
        if exact or fetch.limit > MAX_GRAPH_LIMIT:
            return self._run_query(query, fetch.limit, filter, exact=True)
        hits = self._run_query(query, fetch.limit, filter, exact=False)
        # a graph whose parts are not connected under the filter can end early: then look at every vector
        return hits if len(hits) == fetch.limit else self._run_query(query, fetch.limit, filter, exact=True)

    def _run_query(self, query: list[float], limit: int, filter: edge.Filter, *, exact: bool) -> Hits:
        params = edge.SearchParams(hnsw_ef=max(self._graph.ef, 2 * limit), exact=exact)
        nearest = edge.Query.Nearest(query, VECTOR)
        hits = self._engine.query(edge.QueryRequest(limit, query=nearest, filter=filter, params=params))
        return [(hit.id, hit.score) for hit in hits]  # type: ignore[misc]  # all our ids are integers

    def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        """Does the same as ``DenseStore.compute_similarities``."""
        if not docnos:
            return {}
        filter = edge.Filter(must=[self._conditions.has_value(DOCNO, [int(docno) for docno in docnos])])
        limit = self._engine.count(edge.CountRequest(filter=filter))
        hits = self._run_query(vector.tolist(), limit, filter, exact=True) if limit else []
        best: dict[Docno, Candidate] = {}
        for point, score in hits:
            best.setdefault(read_docno(point), Candidate(read_docno(point), score, read_passage(point)))
        return best

    def _make_condition(self, filter: Filter) -> Condition:
        values = {name: self._read_distinct(name) for name in find_string_ranges(filter, self._types)}
        return translate(spell_out(filter, self._types, values), self._types, self._conditions)

    def _read_distinct(self, name: str) -> list[str]:
        hits = self._engine.facet(edge.FacetRequest(to_payload_key(name), limit=ALL_VALUES)).hits
        return [str(hit.value) for hit in hits]

    def _count_matching(self, filter: Filter, condition: Condition | None) -> int:
        """Counts points that match, exact when counted, kept until a hundredth of ``exact_below`` was
        written.

        The engine's own estimate takes conditions to be independent, and is wrong where they are not.
        """
        held = self._counts.get(filter)
        if held is None or self._written - held[1] > self._graph.exact_below // 100:
            only = edge.Filter(must=None if condition is None else [condition])
            held = self._engine.count(edge.CountRequest(filter=only)), self._written
            self._counts[filter] = held
        return held[0]

    # telling

    def count(self) -> int:
        """Counts documents."""
        documents = edge.Filter(must=[self._conditions.has_field(VERSION)])
        return self._engine.count(edge.CountRequest(filter=documents))

    def read_versions(self, start: int, limit: int) -> tuple[list[tuple[Docno, int]], int | None]:
        """Reads docnos with versions from point ``start``, and the point to go on from, None at the end."""
        documents = edge.Filter(must=[self._conditions.has_field(VERSION)])
        records, rest = self._engine.scroll(
            edge.ScrollRequest(offset=start, limit=limit, filter=documents, with_payload=[VERSION])
        )
        found = [(read_docno(int(r.id)), int((r.payload or {})[VERSION])) for r in records]
        return found, None if rest is None else int(rest)

    def read_vectors(
        self, docnos: Sequence[Docno], start: int, limit: int
    ) -> tuple[list[StoredPoint], int | None]:
        """Reads points of these documents from point ``start``, and the point to go on from, None at the
        end."""
        only = edge.Filter(must=[self._conditions.has_value(DOCNO, [int(docno) for docno in docnos])])
        records, rest = self._engine.scroll(
            edge.ScrollRequest(offset=start, limit=limit, filter=only, with_payload=False, with_vector=True)
        )
        found = [(int(r.id), _read_vector(r)) for r in records]
        return found, None if rest is None else int(rest)

    def count_sizes(self) -> tuple[int, int]:
        """Counts points, and vectors in the graph."""
        info = self._engine.info()
        return info.points_count, info.indexed_vectors_count

    # catching up

    def copy_document(self, docno: Docno, target: "Shard", rows: int) -> Iterator[int]:
        """Makes ``docno`` in ``target`` what it is here, ``rows`` points a step; yields the points copied."""
        only = edge.Filter(must=[self._conditions.has_value(DOCNO, [int(docno)])])
        target._engine.update(edge.UpdateOperation.delete_points_by_filter(only))
        start: int | None = make_point_id(docno, 0)
        while start is not None:
            records, rest = self._engine.scroll(
                edge.ScrollRequest(offset=start, limit=rows, filter=only, with_payload=True, with_vector=True)
            )
            points = [edge.Point(r.id, r.vector or {}, r.payload) for r in records]
            if points:
                target._engine.update(edge.UpdateOperation.upsert_points(points))
                target.pending += len(points)
            start = None if rest is None else int(rest)
            yield len(points)


def _count_points(part: Part) -> int:
    """Counts points of the whole document: one even for a document without passages, none for a deletion."""
    return 0 if part.vectors is None else max(part.total, 1)


def _read_vector(record: edge.Record) -> NDArray[np.float32] | None:
    stored = record.vector.get(VECTOR) if isinstance(record.vector, dict) else None
    return None if stored is None else np.array(stored, np.float32)
