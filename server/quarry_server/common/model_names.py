"""Models that requests name: held to the settings, and fetched where that is allowed."""

import asyncio
from collections.abc import Collection as Names

from quarry.config import Settings
from quarry.documents.catalog import NO_ENCODER, Collection
from quarry.models.sources.hub import Hub, HubPolicy
from quarry.models.sources.naming import AllowedModels
from quarry.models.sources.resolve import find_model
from quarry.registry.names import parse_name


class RequestedModels:
    """Lives on the server's event loop; ended by ``close``.

    Everything else in the server looks for models on this machine alone. So no network can keep it waiting
    that has not been asked for a model by a request, and such a request waits by itself.
    """

    def __init__(self, settings: Settings) -> None:
        models = settings.models
        configured = {models.encoder, models.base_reranker, *models.rerankers}
        self._allowed = AllowedModels(configured, models.folders, models.hub)
        self._hub = Hub(settings.data, HubPolicy(models.hub, models.hub_timeout_s))

    async def tidy(self) -> None:
        """Removes what interrupted fetches have left. Called at the start."""
        await asyncio.to_thread(self._hub.remove_unfinished)

    async def admit(self, *names: str, known: Names[str] = ()) -> None:
        """Sees to it that the server may use the models, and that those of the hub are here.

        Args:
            names: as requests give them; an empty one, ``none`` and names of versions are left to the caller.
            known: that are allowed because a collection has them already.

        Raises:
            ModelNotAllowedError: requests may not name one of them.
            UnavailableError: the hub has one, and does not give it now.
            ModelError: the hub does not give one at all.
        """
        for name in names:
            if name in ("", NO_ENCODER) or parse_name(name) is not None:
                continue
            if name in known or self._allowed.is_configured(name):
                await self._hub.fetch_missing(name, find_model)
                continue
            await asyncio.to_thread(self._allowed.check, name)
            await self._hub.fetch_missing(name)  # a folder of that name is not what the request may mean

    async def close(self) -> None:
        """Ends what is being fetched."""
        await self._hub.close()


def list_names(collection: Collection) -> Names[str]:
    """Lists the models that a collection has."""
    return {collection.settings.encoder, *collection.settings.rerankers}
