"""What becomes of a ranking configuration that a tuning has found: registered, and promoted by the policy."""

import logging

from quarry.collections.ranking_promotion import Rankings
from quarry.documents.store import RequestId
from quarry.errors import QuarryError
from quarry.ranking.promotion_policy import PromotionPolicy
from quarry.registry.serving import Note
from quarry.training.spec import TuningResult, TuningSpec
from quarry.v1 import model_service_pb2 as pb
from quarry_server.models.rankings import found_message, ranking_message
from quarry_server.training.models import POLICY, TrainedModels

logger = logging.getLogger(__name__)
_NO_REPEAT = RequestId("", "policy-ranking", b"")


class TunedRankings:
    """Lives on the server's event loop."""

    def __init__(self, rankings: Rankings, models: TrainedModels) -> None:
        self._rankings, self._models = rankings, models

    async def take(self, spec: TuningSpec, result: TuningResult) -> pb.Ranking:
        """The version that came of a tuning, registered; if the policy says so, it serves."""
        found = result.evaluation
        if result.configuration is None or found.verdict == "BAD_DATA":
            return found_message(spec.collection, result)
        version = await self._rankings.register(spec.collection, spec.collection_key, result)
        message = ranking_message(version)
        if found.verdict != "IMPROVED":
            return message
        try:
            policy = await self._models.policy_of(spec.collection)
            if policy is PromotionPolicy.MANUAL:
                return message
            if found.cautions and policy is not PromotionPolicy.DESPITE_CAUTIONS:
                told = f"it is not promoted by itself ({', '.join(found.cautions)}): that is for a person"
                message.advice.append(told)
                return message
            note = Note(POLICY, f"{found.verdict}: the promotion policy is {policy}")
            await self._rankings.promote(version.name, note, _NO_REPEAT, if_unchanged=True)
            return ranking_message(await self._rankings.get(version.name))
        except QuarryError as error:
            logger.warning("%s is registered, and does not serve: %s", version.name, error)
            message.advice.append(f"it is not promoted: {error}")
            return message
