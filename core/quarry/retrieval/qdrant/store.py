"""The dense store on a Qdrant server or cluster, through its client."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, models

from quarry.errors import DataLossError, DiskFullError, RetrieverUnavailableError
from quarry.filters import Filter
from quarry.retrieval.base import VectorChange
from quarry.retrieval.heartbeat import DEFAULT_PATIENCE, Patience
from quarry.retrieval.points import (
    Fetch,
    Hits,
    Part,
    StoredPoint,
    check_vector,
    collect_documents,
    gather_vectors,
    keep_latest_changes,
    make_point_id,
    read_docno,
    read_passage,
    split_part_batches,
)
from quarry.retrieval.qdrant.conditions import ClientConditions, Condition
from quarry.retrieval.qdrant.connection import QdrantConnection
from quarry.retrieval.qdrant_filters import (
    find_string_ranges,
    list_field_types,
    spell_out,
    to_payload_key,
    to_stored_fields,
    translate,
)
from quarry.schema import Field, FieldType
from quarry.types import Candidate, Docno, Position

logger = logging.getLogger(__name__)

VECTOR = "passage"
DOCNO = "_docno"
VERSION = "_version"
POSITIONS = "quarry_positions"
BATCH_ROWS = 256
EXACT_BELOW = 40_000
EF = 256
CLOSE_TIMEOUT_S = 3.0
ALL_VALUES = 1_000_000
PER_SCROLL = 2_000
DEFAULT_TIMEOUT_S = 10.0
INDEXES: dict[FieldType, Any] = {
    FieldType.KEYWORD: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True),
    FieldType.INTEGER: models.PayloadSchemaType.INTEGER,
    FieldType.BOOLEAN: models.PayloadSchemaType.INTEGER,
    FieldType.FLOAT: models.PayloadSchemaType.FLOAT,
    FieldType.TIMESTAMP: models.PayloadSchemaType.DATETIME,
}


class QdrantDenseStore:
    """DenseStore in one collection of a Qdrant server. Made by ``open``, which creates the collection.

    The position is a point of its own collection, written after the points, each acknowledged by the server
    as applied and in its write-ahead log. After a failed
    ``apply`` the next one raises until ``position`` has been read: the caller goes on from there.

    Searches fail while the server is silent, as ``QdrantConnection`` says.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        collection: str,
        generation: str,
        dimension: int,
        fields: tuple[Field, ...],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._client, self._collection, self._dimension = client, collection, dimension
        self._generation = generation
        self._types = list_field_types(fields)
        self._conditions = ClientConditions()
        self._applied = 0
        self._must_replay = False
        self._writing = asyncio.Lock()
        self._server = QdrantConnection(client, POSITIONS, collection, timeout_s, patience)

    @classmethod
    async def open(
        cls,
        client: AsyncQdrantClient,
        collection: str,
        generation: str,
        dimension: int,
        fields: tuple[Field, ...],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> "QdrantDenseStore":
        """Opens the store of ``generation``, whose vectors lie in ``collection`` on the server.

        Args:
            client: ours from now on; ``close`` closes it, and so does a failure to open.
            timeout_s: that one call of the server may take.
            patience: with a server that does not answer, at least ``LEAST_PATIENCE_S`` or ``ROUND_TRIPS``
                round trips, so that a slow one is asked on; it is never started again from here.

        Raises:
            DataLossError: the collection holds another generation.
            RetrieverUnavailableError: the server cannot be reached, or does not answer in time.
        """
        store = cls(client, collection, generation, dimension, fields, timeout_s=timeout_s, patience=patience)
        try:
            await store._create_missing()
            store._applied = (await store.read_position()).sequence
        except BaseException:
            await client.close()
            raise
        store._server.start()
        return store

    @property
    def problem(self) -> str | None:
        """Says why the server is not asked for searches now; None if it is."""
        return self._server.problem

    async def _create_missing(self) -> None:
        if not await self._server.time_round_trip():
            await self._server.ask(self._client.create_collection(POSITIONS, vectors_config={}))
        if not await self._server.ask(self._client.collection_exists(self._collection)):
            # an empty collection may not stand behind an old position
            await self._server.ask(self._client.delete(POSITIONS, [self._position_id], wait=True))
            vectors = {VECTOR: models.VectorParams(size=self._dimension, distance=models.Distance.COSINE)}
            await self._server.ask(self._client.create_collection(self._collection, vectors_config=vectors))
        # again on every start: a server that died between the two has a collection without indexes
        for key in (DOCNO, VERSION):
            await self._create_index(key, models.PayloadSchemaType.INTEGER)
        for name, kind in self._types.items():
            await self._create_index(to_payload_key(name), INDEXES[kind])

    async def _create_index(self, key: str, schema: Any) -> None:
        await self._server.ask(self._client.create_payload_index(self._collection, key, schema, wait=True))

    @property
    def _position_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"quarry:{self._collection}"))

    async def read_position(self) -> Position:
        async with self._writing:
            position = await self._read_stored_position()
            self._must_replay = False
            return position

    async def _read_stored_position(self) -> Position:
        records = await self._server.ask(
            self._client.retrieve(POSITIONS, [self._position_id], with_payload=True, with_vectors=False)
        )
        if not records:
            return Position(self._generation, 0)
        stored = records[0].payload or {}
        if stored.get("generation") != self._generation:
            held = stored.get("generation")
            raise DataLossError(f"{self._collection} holds generation {held!r}, not {self._generation!r}")
        return Position(self._generation, int(stored["sequence"]))

    async def apply(self, changes: Sequence[VectorChange], sequence: int) -> None:
        async with self._writing:
            latest = await asyncio.to_thread(keep_latest_changes, changes, self._dimension)
            if self._must_replay:
                raise RetrieverUnavailableError("dense", "a write failed: go on from its position")
            self._must_replay = True
            for batch in split_part_batches(latest, BATCH_ROWS):
                await self._write(batch)
            self._applied = sequence
            self._must_replay = False

    async def _write(self, parts: Sequence[Part]) -> None:
        opened = [part for part in parts if part.first == 0]
        if opened:
            await self._server.ask(self._client.delete(self._collection, _match_outdated(opened), wait=True))
        points = [point for part in parts for point in self._make_points(part)]
        if points:
            await self._server.ask(self._client.upsert(self._collection, points, wait=True))

    def _make_points(self, part: Part) -> list[models.PointStruct]:
        if part.vectors is None:
            return []
        payload: dict[str, Any] = {**to_stored_fields(part.fields, self._types), DOCNO: int(part.docno)}
        head = {**payload, VERSION: part.version}
        points = [
            models.PointStruct(
                id=make_point_id(part.docno, n), vector={VECTOR: row}, payload=payload if n else head
            )
            for n, row in enumerate(part.vectors.tolist(), part.first)
        ]
        if part.total == 0:
            points.append(models.PointStruct(id=make_point_id(part.docno, 0), vector={}, payload=head))
        return points

    async def flush(self) -> Position:
        async with self._writing:
            position = Position(self._generation, self._applied)
            payload = {"generation": position.generation, "sequence": position.sequence}
            point = models.PointStruct(id=self._position_id, vector={}, payload=payload)
            await self._server.ask(self._client.upsert(POSITIONS, [point], wait=True))
            return position

    async def find_nearest(
        self, vector: NDArray[np.float32], depth: int, filter: Filter | None
    ) -> list[Candidate]:
        query = check_vector(vector, self._dimension).tolist()
        return await self._server.search(self._find_nearest(query, depth, filter)) if depth > 0 else []

    async def _find_nearest(self, query: list[float], depth: int, filter: Filter | None) -> list[Candidate]:
        condition = None if filter is None else await self._make_condition(filter)
        exact = condition is not None and await self._count_matching(condition) < EXACT_BELOW
        rounds = collect_documents(depth)
        fetch = next(rounds)
        while True:
            try:
                fetch = rounds.send(await self._fetch(query, fetch, condition, exact))
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]  # StopIteration is not generic

    async def _fetch(
        self, query: list[float], fetch: Fetch, condition: Condition | None, exact: bool
    ) -> Hits:
        must = [] if condition is None else [condition]
        found = [self._conditions.has_value(DOCNO, list(map(int, fetch.found)))] if fetch.found else []
        filter = models.Filter(must=must, must_not=found)
        hits = await self._run_query(query, fetch.limit, filter, exact=exact)
        if exact or len(hits) == fetch.limit:
            return hits
        # a graph whose parts are not connected under the filter can end early: then look at every vector
        return await self._run_query(query, fetch.limit, filter, exact=True)

    async def _run_query(self, query: list[float], limit: int, filter: models.Filter, *, exact: bool) -> Hits:
        response = await self._server.ask(
            self._client.query_points(
                self._collection,
                query,
                using=VECTOR,
                query_filter=filter,
                limit=limit,
                with_payload=False,
                search_params=models.SearchParams(hnsw_ef=max(EF, 4 * limit), exact=exact),
            )
        )
        return [(int(hit.id), hit.score) for hit in response.points]

    async def _make_condition(self, filter: Filter) -> Condition:
        values = {name: await self._read_distinct(name) for name in find_string_ranges(filter, self._types)}
        return translate(spell_out(filter, self._types, values), self._types, self._conditions)

    async def _read_distinct(self, name: str) -> list[str]:
        response = await self._server.ask(
            self._client.facet(self._collection, to_payload_key(name), limit=ALL_VALUES, exact=True)
        )
        return [str(hit.value) for hit in response.hits]

    async def _count_matching(self, condition: Condition) -> int:
        only = models.Filter(must=[condition])
        return (await self._server.ask(self._client.count(self._collection, only, exact=True))).count

    async def compute_similarities(
        self, vector: NDArray[np.float32], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        query = check_vector(vector, self._dimension).tolist()
        return await self._server.search(self._compute_similarities(query, docnos)) if docnos else {}

    async def _compute_similarities(
        self, query: list[float], docnos: Collection[Docno]
    ) -> dict[Docno, Candidate]:
        condition = self._conditions.has_value(DOCNO, [int(docno) for docno in docnos])
        limit = await self._count_matching(condition)
        filter = models.Filter(must=[condition])
        hits = await self._run_query(query, limit, filter, exact=True) if limit else []
        best: dict[Docno, Candidate] = {}
        for point, score in hits:
            best.setdefault(read_docno(point), Candidate(read_docno(point), score, read_passage(point)))
        return best

    async def read_vectors(self, docnos: Collection[Docno]) -> dict[Docno, NDArray[np.float32]]:
        condition = self._conditions.has_value(DOCNO, [int(docno) for docno in docnos])
        points: list[StoredPoint] = []
        start: Any = None
        while docnos:
            records, start = await self._server.ask(
                self._client.scroll(
                    self._collection,
                    scroll_filter=models.Filter(must=[condition]),
                    limit=BATCH_ROWS,
                    offset=start,
                    with_payload=False,
                    with_vectors=[VECTOR],
                )
            )
            points += [(int(record.id), _read_vector(record)) for record in records]
            if start is None:
                break
        return gather_vectors(points, self._dimension)

    async def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        start: Any = None
        while True:
            records, start = await self._server.ask(
                self._client.scroll(
                    self._collection,
                    scroll_filter=self._conditions.has_field(VERSION),
                    limit=PER_SCROLL,
                    offset=start,
                    with_payload=[VERSION],
                )
            )
            for record in records:
                yield read_docno(int(record.id)), int((record.payload or {})[VERSION])
            if start is None:
                return

    async def erase(self) -> None:
        """Does nothing: when the Qdrant server copies segments anew is a setting of its own."""

    async def count(self) -> int:
        return await self._count_matching(self._conditions.has_field(VERSION))

    async def close(self) -> None:
        """Writes the position, if the server answers: else the log is followed from an earlier one later."""
        await self._server.stop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.flush()
        except (TimeoutError, RetrieverUnavailableError, DiskFullError) as error:
            logger.error("the position of %s is not written: %s", self._collection, str(error) or "no answer")
        finally:
            await self._client.close()


def _match_outdated(parts: Sequence[Part]) -> models.Filter:
    """Matches points that the documents of ``parts``, each its document's first, may have and have no
    more."""
    kept = [
        make_point_id(part.docno, n)
        for part in parts
        if part.vectors is not None
        for n in range(max(part.total, 1))
    ]
    documents = ClientConditions().has_value(DOCNO, [int(part.docno) for part in parts])
    return models.Filter(must=[documents], must_not=[models.HasIdCondition(has_id=kept)] if kept else None)


def _read_vector(record: models.Record) -> NDArray[np.float32] | None:
    stored = record.vector.get(VECTOR) if isinstance(record.vector, dict) else None
    return None if stored is None else np.array(stored, np.float32)
