"""The arm that compares vectors: cosines of the query's vector with those of documents' passages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import RetrieverUnavailableError
from quarry.filters import Filter
from quarry.retrieval.base import DenseStore, VectorChange
from quarry.retrieval.definition import (
    ArmDefinition,
    ArmSite,
    Encoding,
    FollowPolicy,
    OpenArm,
    PassageVectors,
    Rewrite,
)
from quarry.retrieval.inspection import Findings, Inspection
from quarry.retrieval.retriever import QueryEncoder, Retrieved
from quarry.retrieval.text_query import SearchText
from quarry.schema import Schema
from quarry.types import Candidate, Change, Docno, Fields, Position
from quarry.waiting import TellProgress

if TYPE_CHECKING:  # the command line reads the list of arms, and needs no numbers
    import numpy as np
    from numpy.typing import NDArray


class DenseRetriever:
    """Encodes the query, then asks the store for the nearest documents."""

    def __init__(self, encoder: QueryEncoder, store: DenseStore) -> None:
        self.name = DENSE.name
        self._encoder, self._store = encoder, store

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        started = time.perf_counter()
        vector, truncated = await self._encoder.encode_query(str(text), limit)
        encoded = time.perf_counter()
        candidates = await self._store.find_nearest(vector, depth, filter)

        async def complete_candidates(docnos: Collection[Docno]) -> dict[Docno, Candidate]:
            return await self._store.compute_similarities(vector, docnos)

        return Retrieved(
            candidates,
            low=COSINES[0],
            high=COSINES[1],
            complete=complete_candidates,
            absent_is_low=False,
            truncated=truncated,
            encode_s=encoded - started,
            search_s=time.perf_counter() - encoded,
        )

    async def read_vectors(self, docnos: Collection[Docno]) -> dict[Docno, NDArray[np.float32]]:
        return await self._store.read_vectors(docnos)

    def search_for_vector(self, vector: NDArray[np.float32] | None) -> DenseRetriever:
        return DenseRetriever(FixedEncoder(vector), self._store)


class FixedEncoder:
    """Gives every query the same vector."""

    def __init__(self, vector: NDArray[np.float32] | None) -> None:
        self._vector = vector

    async def encode_query(self, text: str, limit: Deadline = NO_LIMIT) -> tuple[NDArray[np.float32], bool]:
        """Gives the vector. Raises RetrieverUnavailableError if there is none."""
        if self._vector is None:
            raise RetrieverUnavailableError(DENSE.name, "it has no vector of the document")
        return self._vector, False


class FollowedDense:
    """Puts documents into a dense store: cut, encoded (or taken from the cache), upserted, then flushed."""

    visible_at_once = True

    def __init__(self, store: DenseStore, vectors: PassageVectors, schema: Schema, generation: str) -> None:
        self.arm, self._generation = DENSE.name, generation
        self._store, self._vectors = store, vectors
        self._filterable = frozenset(field.name for field in schema.filterable)

    async def read_position(self) -> Position:
        return await self._store.read_position()

    async def prepare(self, change: Change, tell: TellProgress) -> None:
        """Encodes a document into the cache, from where ``apply`` takes its vectors."""
        await self._vectors.note_uses(self._generation, {change.docno: change.fields})
        if change.fields is not None:
            await self._vectors.read_vectors([change.fields], tell)

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        await self._vectors.note_uses(self._generation, {c.docno: c.fields for c in changes})
        written = [change.fields for change in changes if change.fields is not None]
        vectors = iter(await self._vectors.read_vectors(written))
        await self._store.apply(
            [
                VectorChange(c.docno, c.version, None, {})
                if c.fields is None
                else VectorChange(c.docno, c.version, next(vectors), self._make_payload(c.fields))
                for c in changes
            ],
            sequence,
        )

    async def settle(self, sequence: int) -> None:
        flushed = await self._store.flush()
        if flushed.sequence < sequence:  # the store was started again, and does not know what it was told
            raise RetrieverUnavailableError(self.arm, f"it holds writes up to {flushed.sequence} only")

    def _make_payload(self, fields: Fields) -> Fields:
        return {name: value for name, value in fields.items() if name in self._filterable}


class DenseArm(OpenArm):
    """An open dense store, followed and searched."""

    def __init__(self, store: DenseStore, encoding: Encoding, schema: Schema, generation: str) -> None:
        self._store, self._vectors = store, encoding.vectors
        self.retriever = DenseRetriever(encoding.encoder, store)
        self.index = FollowedDense(store, encoding.vectors, schema, generation)

    @property
    def problem(self) -> str | None:
        return self._store.problem

    async def count(self) -> int:
        return await self._store.count()

    def read_versions(self) -> AsyncIterator[tuple[Docno, int]]:
        return self._store.read_versions()

    async def inspect(self, inspection: Inspection) -> Findings:
        """Looks at vectors until the sample is reached or the time is up.

        Raises ModelError if the encoder fails, or UnavailableError if the store does.
        """
        from quarry.retrieval.vector_check import VectorCheck  # needs numpy, as nothing else here does

        return await VectorCheck(self._store, self._vectors, inspection).run()

    async def forget(self, documents: Sequence[Fields]) -> None:
        await self._vectors.forget(documents)

    async def erase(self, rewrite: Rewrite) -> None:
        await self._store.erase()

    async def close(self) -> None:
        await self._store.close()


async def open_dense(site: ArmSite) -> DenseArm | None:
    """Opens the dense store in the site's folder; None for a collection without an encoder.

    Raises:
        QuarryError: the model or the store cannot be had now.
        DataLossError: the store cannot be read.
    """
    encoding = await site.encoding()
    if encoding is None:
        return None
    store = await site.engines.open_dense(site.folder, site.generation, site.schema, encoding.dimension)
    return DenseArm(store, encoding, site.schema, site.generation)


COSINES = -1.0, 1.0
DENSE = ArmDefinition(
    "dense",
    open_dense,
    weight=0.75,
    low=COSINES[0],
    high=COSINES[1],
    follow=FollowPolicy(batch_rows=512, batch_bytes=2**19, settle_batches=20, idle_settle_s=1.0),
    compares_passages=True,
)
"""The weight was chosen over five collections, beside that of BM25 (docs/explanation/benchmarks.md)."""
