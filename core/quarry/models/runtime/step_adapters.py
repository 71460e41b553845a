"""Encoders and cross-encoders that know no steps, as models that do: their lengths are guessed."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.models.base import CrossEncoder, Encoder, ModelInfo, PairScore

CHARACTERS_PER_TOKEN = 4
BATCH_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class UntokenizedText:
    """A text as it came; ``len`` is a guess of its tokens."""

    text: str
    max_tokens: int
    truncated: bool = False

    def __len__(self) -> int:
        return min(self.max_tokens, 2 + len(self.text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class UntokenizedPair:
    """A pair as it came; ``len`` is a guess of its tokens."""

    pair: tuple[str, str]
    max_tokens: int
    truncated: bool = False

    def __len__(self) -> int:
        return min(self.max_tokens, 3 + sum(map(len, self.pair)) // CHARACTERS_PER_TOKEN)


class EncoderAdapter:
    """An encoder that is only asked for vectors of texts; one batch at a time."""

    batch_tokens = BATCH_TOKENS
    parallel = 1

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        return self._encoder.info

    def prepare(self, items: Sequence[str]) -> list[UntokenizedText]:
        return [UntokenizedText(text, self.info.max_tokens) for text in items]

    def run(self, batch: Sequence[UntokenizedText]) -> list[NDArray[np.float32]]:
        with self._lock:
            return list(self._encoder.encode([one.text for one in batch]))


class CrossEncoderAdapter:
    """A cross-encoder that is only asked for scores of pairs; one batch at a time."""

    batch_tokens = BATCH_TOKENS
    parallel = 1

    def __init__(self, model: CrossEncoder) -> None:
        self._model = model
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    def prepare(self, items: Sequence[tuple[str, str]]) -> list[UntokenizedPair]:
        return [UntokenizedPair(pair, self.info.max_tokens) for pair in items]

    def run(self, batch: Sequence[UntokenizedPair]) -> list[PairScore]:
        with self._lock:
            return self._model.score([one.pair for one in batch])
