"""The cross-encoder: (query, passage) pairs to scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.errors import ModelError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.loading import Device, LoadedModel, load_model
from quarry.models.packing import arrays
from quarry.models.running import run_all
from quarry.models.settings import ModelKind
from quarry.models.tokens import Tokens

Pair = tuple[str, str]


def load_cross_encoder(
    name: str, data: Path, device: Device = "auto", folder: Path | None = None
) -> "TransformerCrossEncoder":
    """The cross-encoder called ``name``, exported under ``data`` at first.

    Raises:
        ModelError: as ``load_model``.
    """
    return TransformerCrossEncoder(load_model(name, ModelKind.CROSS_ENCODER, data, device, folder))


class TransformerCrossEncoder:
    """A ``CrossEncoder`` that a batcher can also drive in steps. Callable from any thread."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.batch_tokens = model.runner.batch_tokens
        self.parallel = model.runner.parallel

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        return run_all(self, self.prepare(pairs))

    def prepare(self, pairs: Sequence[Pair]) -> list[Tokens]:
        """Tokens of each pair; a text that several pairs share is read once."""
        return self._model.tokenizer.pairs(pairs)

    def run(self, batch: Sequence[Tokens]) -> list[PairScore]:
        """The score of each input; one batch, so inputs should be of like length."""
        settings = self._model.settings
        scores = self._model.runner.run(arrays(batch, settings.pad_id, settings.token_types))
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.info.name} gave a score that is not finite", model=self.info.name)
        return [
            PairScore(score, tokens.truncated) for score, tokens in zip(scores.tolist(), batch, strict=True)
        ]
