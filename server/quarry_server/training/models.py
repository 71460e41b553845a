"""What trainings need of the registry: models to start from, versions of what came out, and promotion."""

import asyncio
from pathlib import Path

from quarry.collections.library import Library
from quarry.collections.promotion import Promotions
from quarry.config import Settings
from quarry.documents.store import RequestId
from quarry.errors import ModelError
from quarry.models.sources.resolve import resolve_model
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.registry.serving import Note
from quarry.registry.store import ModelRegistry
from quarry.training.spec import ModelRef, TrainingResult, TrainingSpec
from quarry.v1 import model_service_pb2 as models_pb
from quarry_server.models.messages import model_message

POLICY = "policy"
"""Who promotes what the policy promotes."""
_NO_REPEAT = RequestId("", "policy", b"")


class TrainedModels:
    """The registry as trainings use it. Lives on the server's event loop."""

    def __init__(
        self, library: Library, registry: ModelRegistry, promotions: Promotions, settings: Settings
    ) -> None:
        self._library, self._registry = library, registry
        self._promotions, self._policy = promotions, settings.training.promotion
        self._data = settings.data

    def resolve(self, name: str) -> ModelRef:
        """Where a version, a fetched model, a folder or a package lies. Blocks.

        Raises:
            ModelNotFoundError: no version is called so.
            FailedPreconditionError: the version is retired.
            ModelError: there is no such model.
        """
        folder = self._registry.folder(name)
        if folder is not None:
            return ModelRef(name=name, folder=str(folder))
        try:
            return ModelRef(name=name, folder=str(resolve_model(name, self._data).path))
        except (OSError, RuntimeError, ValueError) as error:  # names are the callers'
            problem = f"{name[:80]!r} cannot be found: {type(error).__name__}"
            raise ModelError(problem, model=name[:80]) from error

    async def register(self, spec: TrainingSpec, result: TrainingResult, folder: Path) -> models_pb.Model:
        """The model in ``folder`` as a version. Raises as ``ModelRegistry.register``."""
        version = await asyncio.to_thread(
            self._registry.register,
            spec.collection,
            spec.what,
            folder,
            result,
            spec.description,
            f"training {spec.name}",
            key=spec.collection_key,
        )
        return model_message(version)

    async def policy_of(self, collection: str) -> PromotionPolicy:
        """As it is now. Raises CollectionNotFoundError."""
        return (await self._library.current(collection)).settings.promotion or self._policy

    async def promote(
        self, model: models_pb.Model, spec: TrainingSpec, policy: PromotionPolicy
    ) -> models_pb.Model:
        """The version once it serves.

        Raises:
            FailedPreconditionError: something else serves now than it was compared with.
            QuarryError: as ``Promotions.promote``.
        """
        reason = f"{models_pb.ModelVerdict.Name(model.verdict)}: the promotion policy is {policy}"
        await self._promotions.promote(model.name, Note(POLICY, reason), _NO_REPEAT, if_unchanged=True)
        return model_message(await asyncio.to_thread(self._registry.get, model.name))
