"""The encoder: texts to unit vectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.models.loading import TransformerModel, load_model
from quarry.models.run_settings import ModelKind
from quarry.models.runtime.packing import make_arrays
from quarry.models.runtime.runner import Device
from quarry.models.runtime.running import run_all
from quarry.models.tokenization import Tokens

Vector = NDArray[np.float32]


def load_encoder(
    name: str, data: Path, device: Device = "auto", folder: Path | None = None
) -> "TransformerEncoder":
    """Loads the encoder called ``name``, exported under ``data`` at first. Raises ModelError as
    ``load_model``."""
    return TransformerEncoder(load_model(name, ModelKind.ENCODER, data, device, folder))


class TransformerEncoder(TransformerModel):
    """An ``Encoder`` that a batcher can also drive in steps. Callable from any thread."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = run_all(self, self.prepare(texts))
        return np.stack(rows) if rows else np.empty((0, self.info.dimension), np.float32)

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        return self._model.tokenizer.find_spans(texts)

    def prepare(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenizes each text, cut to what the model reads."""
        return self._model.tokenizer.encode_texts(texts)

    def run(self, batch: Sequence[Tokens]) -> list[Vector]:
        """Encodes each input; one batch, so inputs should be of like length."""
        settings = self._model.settings
        vectors = self._model.runner.run(make_arrays(batch, settings.pad_id, settings.token_types))
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.info.name} gave a vector that is not finite", model=self.info.name)
        return list(vectors)
