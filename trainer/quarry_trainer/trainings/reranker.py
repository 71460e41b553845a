"""The training of a re-ranker."""

from collections.abc import Sequence
from pathlib import Path

from quarry.errors import InvalidArgumentError
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend
from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.run_settings import ModelKind
from quarry.training.forms import FormName, read_model_form
from quarry.training.spec import ModelRef, TrainingSpec
from quarry_trainer.data.dataset import TextGroup, with_teacher
from quarry_trainer.evaluation.scoring import PairModel, load_as_served
from quarry_trainer.learning.averaging import LEARNED_SHARE
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.late_start import fit_start
from quarry_trainer.learning.listwise import GROUP_SIZE, GROUPS_A_STEP, make_listwise
from quarry_trainer.learning.offset import NEW_OFFSET, fit_offset
from quarry_trainer.learning.student import cut_student
from quarry_trainer.learning.trainable_forms import Form, FormScorer, open_form, start_folder
from quarry_trainer.learning.training_loop import Trainable
from quarry_trainer.trainings.training_run import choose_step_count

RATES: dict[FormName, float] = {"split": 3e-4, "late": 4e-3, "cross": 2e-5}
"""Learning rate by form."""
GROUPS: dict[FormName, int] = {"split": GROUPS_A_STEP, "late": 16, "cross": GROUPS_A_STEP}
"""Groups that a step reads. A step of late interaction costs little, and sixteen groups taught it more of
simulated clicks than eight (docs/explanation/learning.md)."""
LEARNED_SHARES: dict[FormName, float] = {"split": LEARNED_SHARE, "late": 1.0, "cross": 1.0}
"""Of the way that weights went (``averaging.py``). A new head has to go all of it."""
LATE_STEPS = 200
"""Of late interaction, however many groups there are: of few it learns more each time that it reads them, and
of many it learns too much of documents that it has seen. A training that makes more steps makes them smaller,
so that the weights go as far (docs/explanation/learning.md)."""
START, STUDENT = "start", "student"
STATE_BYTES = 2**29
"""Of passages that several models are scored on: some 5,400 of 128 tokens, twice as many in int8."""


class RerankerRecipe:
    """A re-ranker on groups of a positive and its negatives.

    All documents of a group are read, and the positive is to come first. The fused score is added to the
    model's own in training as it is when it serves.

    Args:
        like: a form whose states are shared, as ``open_form`` has it.
    """

    group_size, blends = GROUP_SIZE, True

    def __init__(self, spec: TrainingSpec, data: Path, work: Path, like: Form | None = None) -> None:
        if spec.loss == "margin-mse" and spec.teacher is None:
            raise InvalidArgumentError("loss", "margin-mse learns a teacher's scores, and there is none")
        start = start_folder(Path(spec.base.folder), spec.form, spec.joint_layers, work / START)
        if spec.layers:
            start = cut_student(start, spec.layers, work / STUDENT)
        form = read_model_form(start)
        room = min(spec.max_tokens, form.max_tokens)
        self._spec, self._data, self._form = spec, data, open_form(start, room, spec.seed, like)
        self._new = read_model_form(Path(spec.base.folder)).kind is ModelKind.ENCODER
        self._states = StateCache(STATE_BYTES)
        self.blend = RERANKER_ALONE
        self.groups, self.learned_share = GROUPS[form.name], LEARNED_SHARES[form.name]
        self.learning_rate = RATES[form.name]
        if form.name == "late" and spec.steps > LATE_STEPS:
            self.learning_rate *= LATE_STEPS / spec.steps

    def choose_steps(self, groups: int) -> int:
        return LATE_STEPS if isinstance(self._form, LateForm) else choose_step_count(groups, self.groups)

    def prepare(self, texts: list[TextGroup]) -> list[TextGroup]:
        teacher = self._spec.teacher
        if teacher is None:
            self.blend = _read_blend(self._spec.base) or Blend(rerank=1.0, fused=self._fit_offset(texts))
            return texts
        self.blend = _read_blend(teacher) or RERANKER_ALONE
        states = StateCache(STATE_BYTES)
        return with_teacher(texts, load_cross_encoder(teacher.folder, self._data, states=states))

    def make_trainable(self, learning_rate: float, texts: Sequence[TextGroup]) -> Trainable:
        offset = 0.0 if self._spec.teacher else self.blend.fused  # a teacher's scores are without it
        return make_listwise(self._form, self._spec.loss, learning_rate, offset)

    def _fit_offset(self, texts: Sequence[TextGroup]) -> float:
        """Fits how much the fused score counts beside a model that does not blend yet."""
        if not self._new:
            return fit_offset(texts, self.make_scorer())
        if isinstance(self._form, LateForm):
            fit_start(self._form, texts, NEW_OFFSET)
        return NEW_OFFSET

    def make_scorer(self) -> PairModel:
        return FormScorer(self._form)

    def save(self, folder: Path) -> None:
        self._form.save(folder)

    def load_served(self, folder: Path) -> PairModel:
        """Loads a model as it is served.

        In float32 a split one is scored by torch, which keeps states, once its export scores alike.
        """
        exported = load_as_served(folder, self._data, self._spec.precision, self._states)
        if self._spec.precision == "int8" or not read_model_form(folder).joint_layers:
            return exported
        return self._load_in_torch(folder)

    def load_exact(self, folder: Path) -> PairModel | None:
        return self._load_in_torch(folder) if self._spec.precision == "int8" else None

    def _load_in_torch(self, folder: Path) -> PairModel:
        return FormScorer(open_form(folder, read_model_form(folder).max_tokens, 0, like=self._form))


def _read_blend(model: ModelRef) -> Blend | None:
    """Reads how the model in a folder serves, for a rerank weight of 1; None if it does not blend."""
    blend = read_blend(Path(model.folder))
    if not (blend.rerank and blend.fused):
        return None
    return Blend(rerank=1.0, fused=blend.fused / blend.rerank)
