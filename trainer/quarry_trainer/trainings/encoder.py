"""The training of an encoder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from quarry.models.base import PairScore
from quarry.models.blend import RERANKER_ALONE
from quarry.models.encoder import load_encoder
from quarry.training.spec import TrainingSpec
from quarry_trainer.data.dataset import TextGroup
from quarry_trainer.evaluation.scoring import PairModel, find_own_folder
from quarry_trainer.learning.contrastive import (
    GROUP_SIZE,
    GROUPS_A_STEP,
    EncoderInTraining,
    Vectors,
    collect_positives,
    make_contrastive,
    make_teacher,
)
from quarry_trainer.learning.training_loop import Trainable
from quarry_trainer.trainings.training_run import choose_step_count

RATE = 5e-5
LEARNED_SHARE = 0.8
"""Of the way that weights went (``averaging.py``). By 0.6 known documents of stackfaq came to 0.815 nDCG@10,
by 0.8 to 0.822, and unseen ones to 0.697, from 0.690 in the fused order (by hand, one run)."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.onnx", "onnx/*", "openvino/*")
"""Of the old encoder; not copied to the new one."""


def load_served_encoder(folder: Path, data: Path) -> PairModel:
    """Loads the encoder in ``folder`` as it is served, scoring pairs by their cosine; exported if it never
    was."""
    return _Cosines(load_encoder(str(folder), data, folder=find_own_folder(folder, data)).encode)


class EncoderRecipe:
    """An encoder on pairs of a query and a positive, against the passages of others and a mined negative.

    It is measured by how it orders the candidates that the live first stage gives: what it would find in the
    whole collection is known once that is encoded anew.
    """

    groups, group_size, learning_rate = GROUPS_A_STEP, GROUP_SIZE, RATE
    blends = False
    learned_share, blend = LEARNED_SHARE, RERANKER_ALONE

    def __init__(self, spec: TrainingSpec, data: Path, work: Path) -> None:
        self._base, self._data = Path(spec.base.folder), data
        self._encoder = EncoderInTraining(self._base, spec.max_tokens, spec.seed)
        untrained = EncoderInTraining(self._base, spec.max_tokens, spec.seed)
        self._teacher = make_teacher(untrained, self._encoder)

    def choose_steps(self, groups: int) -> int:
        return choose_step_count(groups, self.groups)

    def prepare(self, texts: list[TextGroup]) -> list[TextGroup]:
        return texts

    def make_trainable(self, learning_rate: float, texts: Sequence[TextGroup]) -> Trainable:
        return make_contrastive(self._encoder, learning_rate, collect_positives(texts), self._teacher)

    def make_scorer(self) -> PairModel:
        return _Cosines(self._encoder.encode)

    def save(self, folder: Path) -> None:
        shutil.copytree(self._base, folder, ignore=shutil.ignore_patterns(*WEIGHTS))
        self._encoder.save(folder)

    def load_served(self, folder: Path) -> PairModel:
        return load_served_encoder(folder, self._data)

    def load_exact(self, folder: Path) -> None:
        """An encoder serves in float32."""


class _Cosines:
    """An encoder as a model of pairs: the score is the cosine. Each text is encoded once a call."""

    def __init__(self, encode: Vectors) -> None:
        self._encode = encode

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = dict(zip(texts, self._encode(texts), strict=True))
        return [PairScore(float(vectors[q] @ vectors[p]), False) for q, p in pairs]
