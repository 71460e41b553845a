"""The training of a re-ranker."""

from collections.abc import Sequence
from pathlib import Path

from quarry.errors import InvalidArgumentError
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend
from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.loading import export_model
from quarry.models.run_settings import ModelKind
from quarry.training.forms import FormName, read_model_form
from quarry.training.spec import MAX_EPOCH_STEPS, ModelRef, TrainingSpec
from quarry_trainer.data.dataset import TextGroup, with_teacher
from quarry_trainer.data.vocabulary import check_vocabulary
from quarry_trainer.learning.averaging import LEARNED_SHARE
from quarry_trainer.learning.late_form import LateForm
from quarry_trainer.learning.late_start import fit_start
from quarry_trainer.learning.listwise import GROUP_SIZE, GROUPS_A_STEP, make_listwise
from quarry_trainer.learning.offset import NEW_OFFSET, fit_offset
from quarry_trainer.learning.student import cut_student
from quarry_trainer.learning.trainable_forms import Form, FormScorer, open_form, start_folder
from quarry_trainer.trainings.recipe import PreparedModel
from quarry_trainer.trainings.served_reranker import STATE_BYTES, ServedRerankers
from quarry_trainer.trainings.steps import choose_step_count

RATES: dict[FormName, float] = {"split": 3e-4, "late": 4e-3, "cross": 2e-5}
"""Learning rate by form."""
GROUPS: dict[FormName, int] = {"split": GROUPS_A_STEP, "late": 16, "cross": GROUPS_A_STEP}
"""Groups that a step reads. A step of late interaction costs little, and sixteen groups taught it more of
simulated clicks than eight, on development queries in trials that no command repeats."""
LEARNED_SHARES: dict[FormName, float] = {"split": LEARNED_SHARE, "late": 1.0, "cross": 1.0}
"""Of the way that weights went (``averaging.py``). A new head has to go all of it."""
LATE_STEPS = 200
"""Of late interaction, however many groups there are: of few it learns more each time that it reads them, and
of many it learns too much of documents that it has seen. A training that makes more steps makes them smaller,
so that the weights go as far. Chosen on development queries in trials that no command repeats."""
START, STUDENT = "start", "student"


class RerankerRecipe:
    """A re-ranker on groups of a positive and its negatives.

    All documents of a group are read, and the positive is to come first. The fused score is added to the
    model's own in training as it is when it serves.

    Args:
        like: a form whose states are shared, as ``open_form`` has it.
    """

    def __init__(self, spec: TrainingSpec, data: Path, work: Path, like: Form | None = None) -> None:
        if spec.loss == "margin-mse" and spec.teacher is None:
            raise InvalidArgumentError("loss", "margin-mse learns a teacher's scores, and there is none")
        start = start_folder(Path(spec.base.folder), spec.form, spec.joint_layers, work / START)
        if spec.layers:
            start = cut_student(start, spec.layers, work / STUDENT)
        form = read_model_form(start)
        room = min(spec.max_tokens, form.max_tokens)
        self._spec, self._data, self._form = spec, data, open_form(start, room, spec.seed, like)
        self._name, self._groups_a_step = form.name, GROUPS[form.name]
        steps = spec.steps or (LATE_STEPS if isinstance(self._form, LateForm) else MAX_EPOCH_STEPS)
        self.most_groups = self._groups_a_step * steps

    def prepare(self, texts: list[TextGroup], rate: float | None = None) -> PreparedModel:
        """Makes the model ready to learn from ``texts``.

        Args:
            rate: learning rate unless the request names one; None: that of the form.

        Raises:
            BadExamplesError: the teacher lacks the language, or does not tell the documents apart.
        """
        spec, blend = self._spec, self._choose_blend(texts)
        offset = 0.0 if spec.teacher else blend.fused  # a teacher's scores are without it
        rate = spec.learning_rate or rate or self._choose_rate()
        return PreparedModel(
            groups=self._add_teacher(texts),
            group_size=GROUP_SIZE,
            groups_a_step=self._groups_a_step,
            steps=spec.steps or self._choose_steps(len(texts)),
            learning_rate=rate,
            learned_share=LEARNED_SHARES[self._name],
            trainable=make_listwise(self._form, spec.loss, rate, offset),
            blends=True,
            blend=blend,
            scorer=FormScorer(self._form),
            save=self._form.save,
            served=ServedRerankers(self._data, spec.precision, self._form),
        )

    def _choose_steps(self, groups: int) -> int:
        late = isinstance(self._form, LateForm)
        return LATE_STEPS if late else choose_step_count(groups, self._groups_a_step)

    def _choose_rate(self) -> float:
        rate, steps = RATES[self._name], self._spec.steps
        return rate * (LATE_STEPS / steps) if self._name == "late" and steps > LATE_STEPS else rate

    def _choose_blend(self, texts: Sequence[TextGroup]) -> Blend:
        """Chooses how the model's score and the fused one are added in training; fits what is not known."""
        if self._spec.teacher is not None:
            return _read_blend(self._spec.teacher) or RERANKER_ALONE
        return _read_blend(self._spec.base) or Blend(rerank=1.0, fused=self._fit_offset(texts))

    def _add_teacher(self, texts: list[TextGroup]) -> list[TextGroup]:
        if self._spec.teacher is None:
            return texts
        folder, states = self._spec.teacher.folder, StateCache(STATE_BYTES)
        exported = export_model(folder, ModelKind.CROSS_ENCODER, self._data)
        check_vocabulary(texts, exported.load_tokenizer())
        return with_teacher(texts, load_cross_encoder(folder, self._data, states=states))

    def _fit_offset(self, texts: Sequence[TextGroup]) -> float:
        """Fits how much the fused score counts beside a model that does not blend yet."""
        if read_model_form(Path(self._spec.base.folder)).kind is not ModelKind.ENCODER:
            return fit_offset(texts, FormScorer(self._form))
        if isinstance(self._form, LateForm):
            fit_start(self._form, texts, NEW_OFFSET)
        return NEW_OFFSET


def _read_blend(model: ModelRef) -> Blend | None:
    """Reads how the model in a folder serves, for a rerank weight of 1; None if it does not blend."""
    blend = read_blend(Path(model.folder))
    if not (blend.rerank and blend.fused):
        return None
    return Blend(rerank=1.0, fused=blend.fused / blend.rerank)
