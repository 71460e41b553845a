"""Registers ranking configurations, and changes which one merges a collection's arms: in one transaction."""

import asyncio
from collections.abc import Callable

import orjson
import sqlalchemy as sa

from quarry.collections.collections import Collections
from quarry.documents import catalog
from quarry.documents.requests import run_once
from quarry.documents.store import RequestId
from quarry.errors import CollectionNotFoundError, FailedPreconditionError
from quarry.ranking.names import make_ranking_name
from quarry.registry.rankings import (
    RankingVersion,
    get_ranking,
    insert_ranking,
    list_rankings,
    read_earlier_ranking,
    serve_ranking,
)
from quarry.registry.serving import Note
from quarry.registry.versions import Place
from quarry.training.spec import TuningResult

DEFAULTS = "the defaults"
NO_RERANKER = "no model"
Change = tuple[str, str]
"""What serves now, and what served before; empty: the defaults."""
Wanted = Callable[[sa.Connection, catalog.Collection], str]
"""Names what is to serve a collection that is as given."""


class Rankings:
    """Lives on the event loop of the open collections. A search in flight goes on with what it began with."""

    def __init__(self, open_collections: Collections) -> None:
        self._open_collections = open_collections

    async def register(self, collection: str, key: int, result: TuningResult) -> RankingVersion:
        """Makes the collection's next version, which does not serve yet.

        Raises CollectionNotFoundError if the collection was deleted meanwhile.
        """

        def write(connection: sa.Connection) -> RankingVersion:
            if catalog.get_collection(connection, collection).key != key:
                raise CollectionNotFoundError
            number = insert_ranking(connection, key, result)
            return get_ranking(connection, make_ranking_name(collection, number))

        return await self._open_collections.database.write(write)

    async def get(self, name: str) -> RankingVersion:
        """Raises NotFoundError."""
        return await asyncio.to_thread(self._open_collections.database.read, lambda c: get_ranking(c, name))

    async def read_page(self, collection: str, below: Place | None, limit: int) -> list[RankingVersion]:
        """Reads versions, newest first, those below a place; of all collections if none is named."""
        return await asyncio.to_thread(
            self._open_collections.database.read, lambda c: list_rankings(c, collection, below, limit)
        )

    async def promote(self, name: str, note: Note, request: RequestId, if_unchanged: bool = False) -> Change:
        """Makes a version serve.

        Args:
            if_unchanged: only if what it was compared with still serves, or it serves already.

        Raises:
            NotFoundError: there is none of this name.
            FailedPreconditionError: another configuration or re-ranker serves than when it was compared.
        """
        version = await self.get(name)

        def check_wanted(_connection: sa.Connection, serves: catalog.Collection) -> str:
            if if_unchanged:
                _check_unchanged(version, serves)
            return name

        return await self._serve(version.collection, check_wanted, note, request, rollback=False)

    async def roll_back(self, collection: str, note: Note, request: RequestId) -> Change:
        """Makes what served before serve again. Raises FailedPreconditionError if nothing did."""
        return await self._serve(collection, read_earlier_ranking, note, request, rollback=True)

    async def _serve(
        self, collection: str, wanted: Wanted, note: Note, request: RequestId, rollback: bool
    ) -> Change:
        def write(connection: sa.Connection) -> Change:
            current = catalog.get_collection(connection, collection)

            def change(connection: sa.Connection) -> Change:
                name = wanted(connection, current)
                serve_ranking(connection, current, name, note, rollback)
                return name, current.ranking_name

            scope = f"{current.key}/{request.method}"
            return run_once(connection, scope, request.id, request.request, change, _dump, _load_change)

        return await self._open_collections.change(collection, (), write)


def _check_unchanged(version: RankingVersion, collection: catalog.Collection) -> None:
    """Raises FailedPreconditionError if something else serves the collection than when it was compared."""
    compared, now = version.result.evaluation.compared_with, collection.ranking_name
    if now not in (compared, version.name):
        raise FailedPreconditionError(
            f"it was compared with {compared or DEFAULTS}, and {now or DEFAULTS} serves now",
            ranking=version.name,
        )
    reranker, now = version.result.reranker, collection.settings.reranker
    if now != reranker:
        raise FailedPreconditionError(
            f"it was compared when {reranker or NO_RERANKER} re-ranked, and {now or NO_RERANKER} does now",
            ranking=version.name,
        )


def _dump(change: Change) -> bytes:
    return orjson.dumps(change)


def _load_change(data: bytes) -> Change:
    now, before = orjson.loads(data)
    return str(now), str(before)
