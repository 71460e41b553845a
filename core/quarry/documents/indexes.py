"""The two arms' indexes as their followers see them: documents in, postings and vectors out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from quarry.documents.vectors import DocumentVectors
from quarry.errors import RetrieverUnavailableError
from quarry.retrieval.base import DenseStore, LexicalIndex, VectorChange
from quarry.schema import Schema
from quarry.storage.faults import reach
from quarry.types import Change, Fields, Position

P = ParamSpec("P")
T = TypeVar("T")


class FollowedLexical:
    """BM25: a commit makes changes visible and durable in one step."""

    arm = "bm25"
    visible_at_once = False

    def __init__(self, index: LexicalIndex) -> None:
        self._index = index

    async def position(self) -> Position:
        return self._index.position

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        await _to_its_end(self._index.apply, changes)
        reach("bm25-applied")

    async def settle(self, sequence: int) -> None:
        await _to_its_end(self._index.commit, sequence)
        reach("bm25-committed")


class FollowedDense:
    """Vectors: cut, encode (or take from the cache), upsert; a flush makes them durable."""

    arm = "dense"
    visible_at_once = True

    def __init__(self, store: DenseStore, vectors: DocumentVectors, schema: Schema) -> None:
        self._store, self._vectors = store, vectors
        self._filterable = frozenset(field.name for field in schema.filterable)

    async def position(self) -> Position:
        return await self._store.position()

    async def apply(self, changes: Sequence[Change], sequence: int) -> None:
        written = [change.fields for change in changes if change.fields is not None]
        vectors = iter(await self._vectors.of(written))
        await self._store.apply(
            [
                VectorChange(c.docno, c.version, None, {})
                if c.fields is None
                else VectorChange(c.docno, c.version, next(vectors), self._payload(c.fields))
                for c in changes
            ],
            sequence,
        )

    async def settle(self, sequence: int) -> None:
        flushed = await self._store.flush()
        if flushed.sequence < sequence:  # the store was started again, and does not know what it was told
            raise RetrieverUnavailableError(self.arm, f"it holds writes up to {flushed.sequence} only")

    def _payload(self, fields: Fields) -> Fields:
        return {name: value for name, value in fields.items() if name in self._filterable}


async def _to_its_end(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``call`` in a thread; whoever is cancelled waits too, so that nobody closes what it still uses."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
