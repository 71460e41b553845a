"""Takes what a training or a tuning has found into the registry, and promotes it if the policy says so."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from quarry.documents.store import RequestId
from quarry.errors import NotFoundError, QuarryError
from quarry.mining.sets import MiningSets
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.registry.rankings import RankingVersion
from quarry.registry.serving import Note
from quarry.registry.store import ModelRegistry
from quarry.registry.versions import ModelVersion
from quarry.training.spec import (
    EvaluationReport,
    TrainingResult,
    TrainingSpec,
    TuningResult,
    TuningSpec,
)

logger = logging.getLogger(__name__)
V = TypeVar("V", ModelVersion, RankingVersion)

POLICY = "policy"
"""Who promotes what the policy promotes."""
_NO_REPEAT_MODEL, _NO_REPEAT_RANKING = RequestId("", "policy", b""), RequestId("", "policy-ranking", b"")
"""An empty id is never taken for an earlier request's."""

ReadPolicy = Callable[[str], Awaitable[PromotionPolicy]]
"""Reads the promotion policy of a collection as it is now. Raises CollectionNotFoundError."""


@dataclass(frozen=True, slots=True)
class Taken(Generic[V]):
    """The use that was made of a result.

    Attributes:
        version: as it is now; None if the result holds nothing that could serve.
        advice: why the version does not serve although it is better; empty if there is nothing to say.
    """

    version: V | None
    advice: str = ""


class RankingVersions(Protocol):
    """The registry of ranking configurations."""

    async def register(self, collection: str, key: int, result: TuningResult) -> RankingVersion: ...

    async def get(self, name: str) -> RankingVersion: ...

    async def promote(
        self, name: str, note: Note, request: RequestId, if_unchanged: bool = False
    ) -> object: ...


class ModelPromotions(Protocol):
    """Changes which model serves."""

    async def promote(self, name: str, note: Note, request: RequestId, if_unchanged: bool = False) -> object:
        """Raises FailedPreconditionError if ``if_unchanged`` and something else serves than when the version
        was compared."""
        ...


class TrainedModels:
    """Takes the models that trainings have made. Lives on the event loop of the open collections."""

    def __init__(
        self,
        models: ModelRegistry,
        promotions: ModelPromotions,
        mining_sets: MiningSets,
        read_policy: ReadPolicy,
    ) -> None:
        self._models, self._promotions = models, promotions
        self._mining_sets, self._read_policy = mining_sets, read_policy

    async def take(self, spec: TrainingSpec, result: TrainingResult, folder: Path) -> Taken[ModelVersion]:
        """Registers the model in ``folder``; a re-ranker that is better serves if the policy says so.

        Raises as ``ModelRegistry.register``. A promotion that fails is named in the advice, and logged.
        """
        if not result.has_model or result.evaluation.verdict == "BAD_DATA":
            return Taken(None)
        result = await asyncio.to_thread(self._add_feedback_times, spec, result)
        version = await asyncio.to_thread(
            self._models.register,
            spec.collection,
            spec.kind,
            folder,
            result,
            spec.description,
            f"training {spec.name}",
            key=spec.collection_key,
        )
        if result.kind != "reranker":
            return Taken(version)

        async def promote(note: Note) -> ModelVersion:
            await self._promotions.promote(version.name, note, _NO_REPEAT_MODEL, if_unchanged=True)
            return await asyncio.to_thread(self._models.get, version.name)

        verdict = f"MODEL_VERDICT_{result.evaluation.verdict}"
        return await promote_by_policy(version, result.evaluation, verdict, self._read_policy, promote)

    def _add_feedback_times(self, spec: TrainingSpec, result: TrainingResult) -> TrainingResult:
        """Adds the time of the feedback that the examples rest on, which their file may not say."""
        try:
            mined = self._mining_sets.get(spec.examples_name)
        except NotFoundError:  # an uploaded file, documents alone, or a set that was purged meanwhile
            return result
        times = {"feedback_start_us": mined.feedback_start_us, "feedback_end_us": mined.feedback_end_us}
        return result.model_copy(update=times)


class TunedRankings:
    """Takes the ranking configurations that tunings have found. Lives on the event loop of the open
    collections."""

    def __init__(self, rankings: RankingVersions, read_policy: ReadPolicy) -> None:
        self._rankings, self._read_policy = rankings, read_policy

    async def take(self, spec: TuningSpec, result: TuningResult) -> Taken[RankingVersion]:
        """Registers the configuration; one that is better serves if the policy says so.

        Raises CollectionNotFoundError. A promotion that fails is named in the advice, and logged.
        """
        if result.configuration is None or result.evaluation.verdict == "BAD_DATA":
            return Taken(None)
        version = await self._rankings.register(spec.collection, spec.collection_key, result)

        async def promote(note: Note) -> RankingVersion:
            await self._rankings.promote(version.name, note, _NO_REPEAT_RANKING, if_unchanged=True)
            return await self._rankings.get(version.name)

        verdict = result.evaluation.verdict
        return await promote_by_policy(version, result.evaluation, verdict, self._read_policy, promote)


async def promote_by_policy(
    version: V,
    report: EvaluationReport,
    verdict: str,
    read_policy: ReadPolicy,
    promote: Callable[[Note], Awaitable[V]],
) -> Taken[V]:
    """Promotes a version that is better, if its collection's policy says so now.

    Args:
        verdict: as the history of promotions names it.
        promote: makes the version serve if what it was compared with still does; returns it as it is then.
    """
    if report.verdict != "IMPROVED":
        return Taken(version)
    try:
        policy = await read_policy(version.collection)
        if not policy.allows(report.cautions):
            return Taken(version, _leave_to_person(policy, report.cautions))
        return Taken(await promote(Note(POLICY, f"{verdict}: the promotion policy is {policy}")))
    except QuarryError as error:
        logger.warning("%s is registered, and does not serve: %s", version.name, error)
        return Taken(version, f"it is not promoted: {error}")


def _leave_to_person(policy: PromotionPolicy, cautions: Sequence[str]) -> str:
    """Says why a better version waits for a person; nothing where that is the policy for all."""
    if policy is PromotionPolicy.MANUAL:
        return ""
    return f"it is not promoted by itself ({', '.join(cautions)}): that is for a person"
