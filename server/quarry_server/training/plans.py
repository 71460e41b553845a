"""The work of trainings, evaluations and tunings, as operations do it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import Message

from quarry.jobs.process import OnDetails, OnProgress
from quarry.registry.trained_models import TrainedModels, TunedRankings
from quarry.training.folders import AnySpec
from quarry.training.jobs import TrainingJobs
from quarry.training.spec import EvaluationSpec, TrainingSpec, TuningSpec
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_server.common.jobs import OperationPlan
from quarry_server.models.messages import to_model_message
from quarry_server.models.rankings import to_found_message, to_ranking_message
from quarry_server.training.messages import (
    add_advice,
    make_metadata,
    set_details,
    to_evaluation_message,
    to_unregistered_message,
)
from quarry_server.wiring import OpenFeedback

Work = Callable[[OnProgress, OnDetails], Awaitable[Message]]
"""Does what an operation is for; its response."""


@dataclass(frozen=True, slots=True)
class TrainingPlans:
    """Plans jobs whose requests were checked.

    Attributes:
        trained, tuned: take what a training and what a tuning gives.
    """

    jobs: TrainingJobs
    feedback: OpenFeedback
    trained: TrainedModels
    tuned: TunedRankings

    def plan_training(self, spec: TrainingSpec) -> OperationPlan:
        """Plans to train, and to answer with the model that came of it."""

        async def train(on_progress: OnProgress, on_details: OnDetails) -> models_pb.Model:
            result, taken = await self.jobs.train(spec, on_progress, on_details, self.trained.take)
            if taken.version is None:
                return to_unregistered_message(result, spec)
            return add_advice(to_model_message(taken.version), taken.advice)

        return self._plan(spec, train)

    def plan_evaluation(self, spec: EvaluationSpec) -> OperationPlan:
        """Plans to compare two models."""

        async def evaluate(on_progress: OnProgress, on_details: OnDetails) -> pb.Evaluation:
            return to_evaluation_message(await self.jobs.evaluate(spec, on_progress, on_details), spec)

        return self._plan(spec, evaluate)

    def plan_tuning(self, spec: TuningSpec) -> OperationPlan:
        """Plans to tune, and to answer with the ranking configuration that came of it."""

        async def tune(on_progress: OnProgress, on_details: OnDetails) -> models_pb.Ranking:
            result, taken = await self.jobs.tune(spec, on_progress, on_details, self.tuned.take)
            if taken.version is None:
                return to_found_message(spec.collection, result)
            return add_advice(to_ranking_message(taken.version), taken.advice)

        return self._plan(spec, tune)

    def _plan(self, spec: AnySpec, work: Work) -> OperationPlan:
        metadata = make_metadata(spec)

        async def run(on_progress: OnProgress) -> Message:
            await self.feedback.impressions.flush()  # or the job would miss the last answers
            response = await work(on_progress, partial(set_details, metadata))
            metadata.ClearField("eta")
            return response

        return OperationPlan(metadata, run)
