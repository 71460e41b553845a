"""How a re-ranker is trained."""

from collections.abc import Sequence
from pathlib import Path

from quarry.errors import InvalidArgumentError
from quarry.jobs.child import Progress
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.state_cache import StateCache
from quarry.training.forms import model_form
from quarry.training.spec import TrainingResult, TrainingSpec
from quarry_trainer import contrastive
from quarry_trainer.apart import apart_and_together
from quarry_trainer.averaging import LEARNED_SHARE
from quarry_trainer.dataset import TextGroup, with_teacher
from quarry_trainer.forms import FormScorer, SplitForm, open_form, start_folder
from quarry_trainer.listwise import GROUP_SIZE, GROUPS_A_STEP, listwise
from quarry_trainer.loop import Trainable
from quarry_trainer.scoring import PairModel, load_as_served
from quarry_trainer.student import cut_student
from quarry_trainer.training import train

SPLIT_RATE, ORDINARY_RATE = 3e-4, 2e-5
APART_EPOCHS = 3
"""Of texts apart."""
START, STUDENT = "start", "student"
STATE_BYTES = 2**29
"""Of passages that several models are scored on: some 5,400 of 128 tokens, twice as many in int8."""


def train_reranker(spec: TrainingSpec, folder: Path, progress: Progress) -> TrainingResult:
    """Raises as ``quarry_trainer.training.train``."""
    return train(spec, folder, progress, RerankerRecipe)


class RerankerRecipe:
    """A cross-encoder on groups of a positive and its negatives."""

    group_size, blends = GROUP_SIZE, True

    def __init__(self, spec: TrainingSpec, data: Path, work: Path) -> None:
        if spec.loss == "margin-mse" and spec.teacher is None:
            raise InvalidArgumentError("loss", "margin-mse learns a teacher's scores, and there is none")
        start = start_folder(Path(spec.base.folder), spec.joint_layers, work / START)
        if spec.layers:
            start = cut_student(start, spec.layers, work / STUDENT)
        room = min(spec.max_tokens, model_form(start).max_tokens)
        self._spec, self._data, self._form = spec, data, open_form(start, room, spec.seed)
        self._states = StateCache(STATE_BYTES)
        self.blend = _added(spec)
        self._apart = isinstance(self._form, SplitForm) and spec.teacher is None
        self.spares = self._apart
        self.missed_times = contrastive.MISSED_TIMES if self._apart else 1
        self.groups = contrastive.GROUPS_A_STEP if self._apart else GROUPS_A_STEP
        self.epochs = APART_EPOCHS if self._apart else 1
        self.learned_share = LEARNED_SHARE if self._apart else 1.0
        self.learning_rate = SPLIT_RATE if isinstance(self._form, SplitForm) else ORDINARY_RATE

    def prepared(self, texts: list[TextGroup]) -> list[TextGroup]:
        teacher = self._spec.teacher
        if teacher is None:
            return texts
        states = StateCache(STATE_BYTES)
        return with_teacher(texts, load_cross_encoder(teacher.folder, self._data, states=states))

    def trainable(self, learning_rate: float, texts: Sequence[TextGroup]) -> Trainable:
        offset = self.blend.fused
        if self._apart and isinstance(self._form, SplitForm):
            return apart_and_together(self._form, self._spec.loss, learning_rate, offset, texts)
        return listwise(self._form, self._spec.loss, learning_rate, offset)

    def scorer(self) -> PairModel:
        return FormScorer(self._form)

    def save(self, folder: Path) -> None:
        self._form.save(folder)

    def served(self, folder: Path) -> PairModel:
        """In float32 a split one is scored by torch, which keeps states, once its export scores alike."""
        exported = load_as_served(folder, self._data, self._spec.precision, self._states)
        if self._spec.precision == "int8" or not model_form(folder).joint_layers:
            return exported
        return self._in_torch(folder)

    def exact(self, folder: Path) -> PairModel | None:
        return self._in_torch(folder) if self._spec.precision == "int8" else None

    def _in_torch(self, folder: Path) -> PairModel:
        return FormScorer(open_form(folder, model_form(folder).max_tokens, 0, like=self._form))


def _added(spec: TrainingSpec) -> Blend:
    """What the base's blend adds is added in training: it learns what the first stage does not know.

    Not where a teacher's scores are learned, which are without it.
    """
    blend = read_blend(Path(spec.base.folder))
    if spec.teacher is not None or not blend.rerank:
        return RERANKER_ALONE
    return Blend(rerank=1.0, fused=blend.fused / blend.rerank)
