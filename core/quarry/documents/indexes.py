"""The two arms' indexes as their followers see them: documents in, postings and vectors out."""

import asyncio
from collections.abc import Sequence

from quarry.documents.vectors import DocumentVectors
from quarry.retrieval.base import DenseStore, LexicalIndex, VectorChange
from quarry.schema import Schema
from quarry.types import Change, Fields, Position


class FollowedLexical:
    """BM25: a commit makes changes visible and durable in one step."""

    arm = "bm25"
    visible_at_once = False

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    async def position(self) -> Position:
        return self._index.position

    async def apply(self, changes: Sequence[Change]) -> None:
        await asyncio.to_thread(self._index.apply, changes)

    async def settle(self, sequence: int) -> None:
        await asyncio.to_thread(self._index.commit, sequence)


class FollowedDense:
    """Vectors: cut, encode (or take from the cache), upsert; a flush makes them durable."""

    arm = "dense"
    visible_at_once = True

    def __init__(self, store: DenseStore, vectors: DocumentVectors, schema: Schema) -> None:
        self._store, self._vectors = store, vectors
        self._filterable = frozenset(field.name for field in schema.filterable)

    async def position(self) -> Position:
        return await self._store.position()

    async def apply(self, changes: Sequence[Change]) -> None:
        written = [change.fields for change in changes if change.fields is not None]
        vectors = iter(await self._vectors.of(written))
        await self._store.apply(
            [
                VectorChange(c.docno, c.version, None, {})
                if c.fields is None
                else VectorChange(c.docno, c.version, next(vectors), self._payload(c.fields))
                for c in changes
            ],
            changes[-1].version,
        )

    async def settle(self, sequence: int) -> None:
        await self._store.flush()

    def _payload(self, fields: Fields) -> Fields:
        return {name: value for name, value in fields.items() if name in self._filterable}
