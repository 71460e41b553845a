"""The cross-encoder: (query, passage) pairs to scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quarry.errors import ModelError
from quarry.models.base import PairScore
from quarry.models.caches.state_cache import StateCache
from quarry.models.export.onnx_export import read_export_facts
from quarry.models.loading import TransformerModel, export_model, load_exported
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.packing import group_alike, make_arrays
from quarry.models.runtime.runner import Device, Precision, resolve_device
from quarry.models.runtime.running import run_all
from quarry.models.tokenization import Tokens
from quarry.models.two_steps.separate_steps import open_steps
from quarry.models.two_steps.two_step_cross_encoder import TwoStepCrossEncoder

Pair = tuple[str, str]


def load_cross_encoder(
    name: str,
    data: Path,
    device: Device = "auto",
    folder: Path | None = None,
    states: StateCache | None = None,
    precision: Precision = "fp32",
) -> "TransformerCrossEncoder | TwoStepCrossEncoder":
    """Loads the cross-encoder called ``name``, exported under ``data`` at first.

    On the CPU one that reads texts apart, split or late, is run in its two steps, if it could be exported so,
    else as a whole.

    Args:
        states: where such a one keeps states of passages; None for nowhere.
        precision: on the CPU: int8 halves the time and the states, and moves scores a little. Layers that
            read texts apart stay in fp32. What a late one keeps is in int8 in any case.

    Raises:
        ModelError: as ``load_model``.
    """
    model = export_model(name, ModelKind.CROSS_ENCODER, data, folder)
    in_steps = resolve_device(device) == "cpu"
    facts = read_export_facts(model.target) if in_steps else {}
    steps = open_steps(model.target, facts, model.settings.pad_id, precision)
    if steps is None:
        return TransformerCrossEncoder(load_exported(model, device, precision))
    kept = StateCache(0) if states is None else states
    return TwoStepCrossEncoder(model.describe(precision), model.load_split_tokenizer(), steps, kept)


class TransformerCrossEncoder(TransformerModel):
    """A ``CrossEncoder`` that a batcher can also drive in steps. Callable from any thread."""

    def score(self, pairs: Sequence[Pair]) -> list[PairScore]:
        return run_all(self, self.prepare(pairs))

    def prepare(self, pairs: Sequence[Pair]) -> list[Tokens]:
        """Tokenizes each pair; a text that several pairs share is read once."""
        return self._model.tokenizer.encode_pairs(pairs)

    def run(self, batch: Sequence[Tokens]) -> list[PairScore]:
        """Scores each input; one batch, so inputs should be of like length."""
        settings, runner = self._model.settings, self._model.runner
        scores = np.empty(len(batch), np.float32)
        for places in group_alike(batch, runner.precision):
            some = [batch[place] for place in places]
            scores[places] = runner.run(make_arrays(some, settings.pad_id, settings.token_types))
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.info.name} gave a score that is not finite", model=self.info.name)
        return [
            PairScore(score, tokens.truncated) for score, tokens in zip(scores.tolist(), batch, strict=True)
        ]
