"""The second phase: clears what the last server left behind, and brings back what it served and did."""

import asyncio
import logging

from quarry.documents.catalog import list_collections
from quarry.errors import QuarryError
from quarry_server.feedback.jobs import remove_spooled
from quarry_server.startup.opening import LookAtStop, Parts

logger = logging.getLogger(__name__)


async def recover(parts: Parts, look_at_stop: LookAtStop) -> None:
    """Leaves collections open and following the log, and re-rankers loaded. Reindexing goes on.

    Raises DataLossError if a collection does not know what it holds.
    """
    await _remove_leftovers(parts)
    look_at_stop()
    await parts.open_collections.open()
    look_at_stop()
    await parts.jobs.operations.recover(await parts.jobs.reindexes.list_resumable())
    await load_rerankers(parts)
    look_at_stop()
    await parts.jobs.reindexes.resume()


async def _remove_leftovers(parts: Parts) -> None:
    """Removes what a crash has left of models, fetches and imports."""
    await asyncio.to_thread(parts.models.registry.remove_leftovers, parts.folder.take_away)
    await parts.models.requested.tidy()
    await asyncio.to_thread(remove_spooled, parts.settings.data)


async def load_rerankers(parts: Parts) -> None:
    """Loads those that collections name. A search that misses one says so; the rest is served."""
    found = await asyncio.to_thread(parts.open_collections.database.read, list_collections)
    for name in frozenset[str]().union(*(c.settings.rerankers for c in found)):
        try:
            async with parts.models.of_collections.hold_rerankers([name]):
                pass
        except QuarryError as error:
            logger.error("a re-ranker cannot be loaded: %s", error)
