"""Trains the weights of a model that is ready to learn."""

from collections.abc import Sequence
from pathlib import Path

from quarry_trainer.data.dataset import GroupDataset, TextGroup
from quarry_trainer.learning.averaging import Averaging
from quarry_trainer.learning.training_loop import LoopResult, OnStep, TrainingLoopSettings, run_loop
from quarry_trainer.trainings.development import Development
from quarry_trainer.trainings.recipe import PreparedModel


def train_weights(
    model: PreparedModel,
    seed: int,
    work: Path,
    on_step: OnStep,
    development: Development | None = None,
    course: Sequence[TextGroup] | None = None,
) -> LoopResult:
    """Trains in place; the model has its averaged weights afterwards.

    Args:
        work: of the job; what is interrupted goes on from there.
        development: measures the model now and then, and so says when to stop; None: it makes all steps.
        course: groups that are read once, in this order; None: those of the model, drawn at random.

    Raises:
        BadExamplesError: the loss is not finite.
    """
    averaging = Averaging(model.trainable.model, model.learned_share)

    def measure() -> float:
        assert development is not None  # noqa: S101  the caller asked
        with averaging.use_average():
            return development.measure_ndcg(model.scorer, model.blend)

    result = run_loop(
        model.trainable,
        GroupDataset(model.groups if course is None else course, model.group_size, seed),
        TrainingLoopSettings(
            model.steps, model.groups_a_step, seed, model.learning_rate, shuffle=course is None
        ),
        work,
        measure if development and development.ranked else None,
        on_step,
    )
    averaging.apply()
    return result
