"""The training of an encoder."""

import shutil
from pathlib import Path

from quarry.models.blend import RERANKER_ALONE
from quarry.storage.private import make_private
from quarry.training.spec import MAX_EPOCH_STEPS, TrainingSpec
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.evaluation.encoder_scoring import CosineScorer, ServedEncoders
from quarry_trainer.learning.contrastive import (
    GROUP_SIZE,
    GROUPS_A_STEP,
    EncoderInTraining,
    collect_positives,
    make_contrastive,
    make_teacher,
)
from quarry_trainer.trainings.recipe import PreparedModel
from quarry_trainer.trainings.steps import choose_step_count

RATE = 5e-5
LEARNED_SHARE = 0.8
"""Of the way that weights went (``averaging.py``). By 0.6 known documents of stackfaq came to 0.815 nDCG@10,
by 0.8 to 0.822, and unseen ones to 0.697, from 0.690 in the fused order (by hand, one run)."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.onnx", "onnx/*", "openvino/*")
"""Of the old encoder; not copied to the new one."""


class EncoderRecipe:
    """An encoder on pairs of a query and a positive, against the passages of others and a mined negative.

    It is measured by how it orders the candidates that the live first stage gives: what it would find in the
    whole collection is known once that is encoded anew.
    """

    def __init__(self, spec: TrainingSpec, data: Path, work: Path) -> None:
        self._base, self._spec, self._data = Path(spec.base.folder), spec, data
        self._encoder = EncoderInTraining(self._base, spec.max_tokens, spec.seed)
        untrained = EncoderInTraining(self._base, spec.max_tokens, spec.seed)
        self._teacher = make_teacher(untrained, self._encoder)
        self.most_groups = GROUPS_A_STEP * (spec.steps or MAX_EPOCH_STEPS)

    def prepare(self, texts: list[TextGroup]) -> PreparedModel:
        rate = self._spec.learning_rate or RATE
        return PreparedModel(
            groups=texts,
            group_size=GROUP_SIZE,
            groups_a_step=GROUPS_A_STEP,
            steps=self._spec.steps or choose_step_count(len(texts), GROUPS_A_STEP),
            learning_rate=rate,
            learned_share=LEARNED_SHARE,
            trainable=make_contrastive(self._encoder, rate, collect_positives(texts), self._teacher),
            blends=False,
            blend=RERANKER_ALONE,
            scorer=CosineScorer(self._encoder.encode),
            save=self._save,
            served=ServedEncoders(self._data),
        )

    def _save(self, folder: Path) -> None:
        shutil.copytree(self._base, folder, ignore=shutil.ignore_patterns(*WEIGHTS))
        make_private(folder)  # whoever may read the base need not read what becomes of it
        self._encoder.save(folder)
