"""Changes which model serves: loaded and warm before a search sees it, and then in one transaction."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import orjson
import sqlalchemy as sa

from quarry.collections.collections import Collections
from quarry.documents import catalog
from quarry.documents.requests import recall, run_once
from quarry.documents.store import RequestId
from quarry.errors import FailedPreconditionError
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.registry.names import check_usable
from quarry.registry.serving import NOTHING, Note, find_earlier_reranker, refuse_rollback, serve_reranker
from quarry.registry.store import ModelRegistry
from quarry.registry.versions import ModelVersion

FUSED = "the fused order"
Change = tuple[str, str]
"""What serves now, and what served before; empty: no re-ranker."""


class LoadedModels(Protocol):
    """The loaded models, as far as promotion needs to know of them."""

    async def trim(self) -> None:
        """Unloads what is neither used nor kept, if there is too much of it."""
        ...

    def forget(self, name: str) -> None:
        """Unloads a re-ranker when its last user leaves."""
        ...


class Promotions:
    """Lives on the event loop of the open collections."""

    def __init__(self, open_collections: Collections, registry: ModelRegistry, loaded: LoadedModels) -> None:
        self._open_collections, self._registry, self._loaded = open_collections, registry, loaded

    async def promote(self, name: str, note: Note, request: RequestId, if_unchanged: bool = False) -> Change:
        """Makes a version serve; searches that run go on with what they began with.

        Args:
            if_unchanged: only if what it was compared with still serves, or it serves already.

        Raises:
            ModelNotFoundError: there is none of this name.
            FailedPreconditionError: it is an encoder, or retired, or something else serves than when it was
                compared.
            ModelDamagedError: its files have changed.
            ModelError: it cannot be loaded. Nothing has changed, as with every error.
        """
        version = await asyncio.to_thread(self._registry.get, name)
        known = await self._find_known(version.key, request)
        if known is not None:
            return known
        await asyncio.to_thread(
            self._open_collections.database.read, lambda c: check_usable(c, version.key, name, "reranker")
        )

        def check_wanted(connection: sa.Connection) -> str:
            if if_unchanged:
                serves = catalog.get_collection(connection, version.collection).settings.reranker
                _check_unchanged(version, serves)
            return name

        return await self._serve(version.collection, name, check_wanted, note, request, rollback=False)

    async def roll_back(self, collection: str, note: Note, request: RequestId) -> Change:
        """Makes what served before serve again.

        Raises FailedPreconditionError if nothing did, else as ``promote``.
        """
        while True:
            current = await self._open_collections.read_current(collection)
            known = await self._find_known(current.key, request)
            if known is not None:
                return known
            target = await asyncio.to_thread(
                self._open_collections.database.read, lambda c: _read_earlier(c, collection)
            )
            try:
                return await self._serve(
                    collection, target, lambda c: _read_earlier(c, collection), note, request, rollback=True
                )
            except _MovedOn:  # something else was promoted while the model was loaded
                continue

    async def retire(self, name: str) -> ModelVersion:
        """Marks a version that does not serve as not to be used, and removes its files."""
        version = await asyncio.to_thread(self._registry.retire, name)
        self._loaded.forget(name)
        return version

    async def _serve(
        self,
        collection: str,
        model: str,
        wanted: Callable[[sa.Connection], str],
        note: Note,
        request: RequestId,
        rollback: bool,
    ) -> Change:
        """Checks and loads ``model``, then makes it serve if it is still what is ``wanted``."""
        with self._open_collections.use(collection):
            pass
        await asyncio.to_thread(self._registry.check, model)

        def write(connection: sa.Connection) -> Change:
            current = catalog.get_collection(connection, collection)

            def change(connection: sa.Connection) -> Change:
                if wanted(connection) != model:
                    raise _MovedOn
                serve_reranker(connection, current, model, note, rollback)
                return model, current.settings.reranker

            scope = _make_scope(current.key, request)
            return run_once(connection, scope, request.id, request.request, change, _dump, _load_change)

        changed = await self._open_collections.change(collection, {model} - {NOTHING}, write)
        await self._loaded.trim()
        return changed

    async def _find_known(self, key: int, request: RequestId) -> Change | None:
        """Finds what the same request did before."""
        scope = _make_scope(key, request)
        return await asyncio.to_thread(
            self._open_collections.database.read,
            lambda c: recall(c, scope, request.id, request.request, _load_change),
        )


async def read_policy(
    open_collections: Collections, default: PromotionPolicy, collection: str
) -> PromotionPolicy:
    """Reads who promotes what is better in a collection, as it is now; ``default`` if it does not say.

    Raises CollectionNotFoundError.
    """
    return (await open_collections.read_current(collection)).settings.promotion or default


def _check_unchanged(version: ModelVersion, serves: str) -> None:
    """Raises FailedPreconditionError if something else serves than when the version was compared."""
    if version.result is None:
        raise FailedPreconditionError(
            "it was made elsewhere, and nothing says what it was compared with", model=version.name
        )
    compared = version.result.evaluation.compared_with
    if serves not in (compared, version.name):
        raise FailedPreconditionError(
            f"it was compared with {compared or FUSED}, and {serves or FUSED} serves now", model=version.name
        )


class _MovedOn(Exception):
    pass


def _make_scope(key: int, request: RequestId) -> str:
    return f"{key}/{request.method}"


def _dump(change: Change) -> bytes:
    return orjson.dumps(change)


def _load_change(data: bytes) -> Change:
    now, before = orjson.loads(data)
    return str(now), str(before)


def _read_earlier(connection: sa.Connection, name: str) -> str:
    target = find_earlier_reranker(connection, catalog.get_collection(connection, name))
    if target is None:
        raise refuse_rollback(name)
    return target
