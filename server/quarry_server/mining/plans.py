"""The work of minings, as operations do it."""

import asyncio
from dataclasses import dataclass

from quarry.documents.catalog import read_now_us
from quarry.jobs.process import OnProgress
from quarry.mining.jobs import MiningJobs
from quarry.mining.sets import REPORT
from quarry.mining.spec import MiningSpec
from quarry.v1 import mining_service_pb2 as pb
from quarry_server.common.jobs import OperationPlan
from quarry_server.common.values import to_timestamp
from quarry_server.mining.messages import to_set_message
from quarry_server.wiring import OpenFeedback


@dataclass(frozen=True, slots=True)
class MiningPlans:
    """Plans minings whose requests were checked."""

    jobs: MiningJobs
    feedback: OpenFeedback

    def plan_mining(self, spec: MiningSpec) -> OperationPlan:
        """Plans to make a set and to answer with it."""

        async def mine(on_progress: OnProgress) -> pb.MiningSet:
            if spec.feedback is not None:
                await self.feedback.impressions.flush()  # or the job would miss the last answers
            summary = await self.jobs.mine(spec, on_progress)
            report = await asyncio.to_thread(self.jobs.sets.read_text, spec.name, REPORT)
            return to_set_message(summary, report)

        metadata = pb.MineHardNegativesMetadata(
            collection=spec.collection, mining_set=spec.name, start_time=to_timestamp(read_now_us())
        )
        return OperationPlan(metadata, mine)
