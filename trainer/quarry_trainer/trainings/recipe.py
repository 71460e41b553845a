"""Recipes: each opens one kind of model, and makes it ready to learn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quarry.models.blend import Blend
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.evaluation.scoring import PairModel
from quarry_trainer.evaluation.trained_model import ServedModelLoader
from quarry_trainer.learning.training_loop import Trainable


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that is ready to learn.

    Attributes:
        groups: as the loss needs them.
        group_size: documents of a group that are read at a time.
        groups_a_step: that a step reads; ``steps``: that are made.
        learned_share: of the way from the weights that it begins with to those that it ends with.
        trainable: made for ``groups``.
        blends: its score is blended with the fused one.
        blend: how its score and the fused one are added while it is trained.
        scorer: scores by the model as it is when it is asked.
        save: writes the model as it can be served.
        served: loads it, and models like it, as they are served.
    """

    groups: list[TextGroup]
    group_size: int
    groups_a_step: int
    steps: int
    learning_rate: float
    learned_share: float
    trainable: Trainable
    blends: bool
    blend: Blend
    scorer: PairModel
    save: Callable[[Path], None]
    served: ServedModelLoader


class Recipe(Protocol):
    """The training of one kind of model. Made with the model open; prepared once.

    Attributes:
        most_groups: that are read.
    """

    most_groups: int

    def prepare(self, texts: list[TextGroup]) -> PreparedModel:
        """Makes the model ready to learn from ``texts``. Raises BadExamplesError."""
        ...


class OpenRecipe(Protocol):
    """Makes a recipe for a job, whose unfinished work lies in ``work``."""

    def __call__(self, spec: TrainingSpec, data: Path, work: Path) -> Recipe: ...
