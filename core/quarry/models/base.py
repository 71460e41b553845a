"""The interfaces of models, whatever runs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The facts about a loaded model.

    Attributes:
        name: as the user gave it: a hub id, a folder or a package.
        fingerprint: hex hash of weights, tokenizer and settings: two models with the same one give the
            same outputs. Keys caches.
        max_tokens: longest input, special tokens included.
        dimension: of an encoder's vectors; 0 for a cross-encoder.
    """

    name: str
    fingerprint: str
    max_tokens: int
    dimension: int = 0


class Encoder(Protocol):
    """Turns text into vectors. An output depends on its own text alone, to 1e-4, never on its batch."""

    @property
    def info(self) -> ModelInfo: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes vectors of unit length, shape ``(len(texts), dimension)``.

        Over-long texts are cut. Blocks.
        """
        ...

    def find_token_spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Finds the (start, end) characters of each token of each text, special tokens left out, uncut."""
        ...


@dataclass(frozen=True, slots=True)
class PairScore:
    """A cross-encoder's score of one pair, and whether it saw a cut text."""

    score: float
    truncated: bool


class CrossEncoder(Protocol):
    """Scores (query, passage) pairs. A score depends on its own pair alone, to 1e-4."""

    @property
    def info(self) -> ModelInfo: ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Returns one score a pair, in order, higher is better; unbounded (logits). Blocks."""
        ...
