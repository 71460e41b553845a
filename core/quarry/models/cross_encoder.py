"""The cross-encoder: (query, passage) pairs to scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.errors import ModelError
from quarry.models.base import ModelInfo, PairScore
from quarry.models.loading import Device, LoadedModel, device_in_use, export_model, load_exported
from quarry.models.onnx_export import exported_parts
from quarry.models.onnx_runner import OnnxRunner
from quarry.models.packing import arrays
from quarry.models.running import run_all
from quarry.models.settings import ModelKind
from quarry.models.split_cross_encoder import SplitCrossEncoder, SplitGraphs
from quarry.models.split_parts import APART_FILE, TOGETHER_FILE
from quarry.models.state_cache import StateCache
from quarry.models.tokens import Tokens

Pair = tuple[str, str]


def load_cross_encoder(
    name: str,
    data: Path,
    device: Device = "auto",
    folder: Path | None = None,
    states: StateCache | None = None,
) -> "TransformerCrossEncoder | SplitCrossEncoder":
    """The cross-encoder called ``name``, exported under ``data`` at first.

    On the CPU a split one is run in its two parts, if it could be exported so, else as a whole.

    Args:
        states: where a split one keeps states of passages; None for nowhere.

    Raises:
        ModelError: as ``load_model``.
    """
    model = export_model(name, ModelKind.CROSS_ENCODER, data, folder)
    parts = exported_parts(model.target)
    if parts is None or device_in_use(device) != "cpu":
        return TransformerCrossEncoder(load_exported(model, device))
    apart, together = (OnnxRunner(model.target / file) for file in (APART_FILE, TOGETHER_FILE))
    return SplitCrossEncoder(
        model.info(),
        model.split_tokenizer(),
        SplitGraphs(apart, together, parts),
        model.settings.pad_id,
        StateCache(0) if states is None else states,
    )


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
