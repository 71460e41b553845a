"""The facts that a training request is read against."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quarry.collections.collections import Collections
from quarry.config import Settings
from quarry.documents.catalog import NO_ENCODER, Collection, get_collection, read_now_us
from quarry.feedback.reading.guards import GuardPolicy
from quarry.mining.sets import MiningSets
from quarry.models.blend import read_blend
from quarry.models.calibration import read_calibration
from quarry.models.runtime.runner import Precision
from quarry.registry.store import ModelRegistry
from quarry.training.spec import ModelRef
from quarry.training.uploads import Uploads
from quarry_server.mining.requests import make_unique_name
from quarry_server.training.models import find_model
from quarry_server.wiring import choose_precision


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The facts that a request is read against. All of it blocks.

    Attributes:
        base_reranker: the server's, or empty.
        precision: of the re-rankers that it serves.
        server: ``host:port`` where the job reaches it.
        resolve: finds a version, a fetched model, a folder or a package; raises ModelError or NotFoundError.
        find_collection: finds another collection by its name or alias; raises CollectionNotFoundError.
    """

    collection: Collection
    base_reranker: str
    precision: Precision
    guards: GuardPolicy
    server: str
    now_us: int
    resolve: Callable[[str], ModelRef]
    find_collection: Callable[[str], Collection]
    mining_sets: MiningSets
    uploads: Uploads

    @property
    def encoder(self) -> str:
        """The collection's encoder; empty if it has none."""
        name = self.collection.settings.encoder
        return "" if name == NO_ENCODER else name

    @property
    def serving(self) -> ModelRef | None:
        """The re-ranker that serves."""
        name = self.collection.settings.reranker
        return self.resolve(name) if name else None

    def can_give_relevance(self, reranker: str) -> bool:
        """Tells whether it says how relevant a hit is, and only while the present ranking configuration
        serves."""
        folder = Path(self.resolve(reranker).folder)
        calibration = read_calibration(folder)
        return (
            calibration is not None
            and calibration.ranking == self.collection.ranking_name
            and read_blend(folder).fused > 0
        )

    @property
    def common(self) -> dict[str, object]:
        """What every job is told."""
        return {
            "name": make_unique_name(self.collection.settings.name, self.now_us),
            "collection": self.collection.settings.name,
            "collection_key": self.collection.key,
            "server": self.server,
            "precision": self.precision,
            "guards": self.guards,
            "create_time_us": self.now_us,
        }


class RequestContexts:
    """Reads the facts that requests on a collection are read against.

    Args:
        guards: of the feedback that jobs read.
        address: where jobs reach this server.

    Attributes:
        base_reranker: the server's, or empty.
    """

    def __init__(
        self,
        open_collections: Collections,
        registry: ModelRegistry,
        mining_sets: MiningSets,
        uploads: Uploads,
        guards: GuardPolicy,
        settings: Settings,
        address: str,
    ) -> None:
        self._open_collections = open_collections
        self._find_model = partial(find_model, registry, settings.data)
        self._mining_sets, self._uploads, self._guards = mining_sets, uploads, guards
        self._precision, self._address = choose_precision(settings), address
        self.base_reranker = settings.models.base_reranker

    def read(self, collection: Collection) -> RequestContext:
        """Reads the time, and returns it with the rest."""
        return RequestContext(
            collection=collection,
            base_reranker=self.base_reranker,
            precision=self._precision,
            guards=self._guards,
            server=self._address,
            now_us=read_now_us(),
            resolve=self._find_model,
            find_collection=self._find_collection,
            mining_sets=self._mining_sets,
            uploads=self._uploads,
        )

    def _find_collection(self, name: str) -> Collection:
        own_name = self._open_collections.aliases.resolve(name)
        return self._open_collections.database.read(lambda c: get_collection(c, own_name))
