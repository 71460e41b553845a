"""Scores of pairs by an encoder: the cosine of both vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.models.base import PairScore
from quarry.models.encoder import load_encoder
from quarry_trainer.evaluation.scoring import PairModel, find_own_folder


class CosineScorer:
    """An encoder as a model of pairs: the score is the cosine. Each text is encoded once a call.

    Args:
        encode: texts to vectors of unit length, float32, shape ``(n, dim)``.
    """

    def __init__(self, encode: Callable[[Sequence[str]], NDArray[np.float32]]) -> None:
        self._encode = encode

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = dict(zip(texts, self._encode(texts), strict=True))
        return [PairScore(float(vectors[q] @ vectors[p]), False) for q, p in pairs]


def load_served_encoder(folder: Path, data: Path) -> PairModel:
    """Loads the encoder in ``folder`` as it is served, scoring pairs by their cosine; exported if it never
    was."""
    return CosineScorer(load_encoder(str(folder), data, folder=find_own_folder(folder, data)).encode)


class ServedEncoders:
    """Loads encoders as a server serves them whose data folder is ``data``: in float32."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def load(self, folder: Path) -> PairModel:
        return load_served_encoder(folder, self._data)

    def load_exact(self, folder: Path) -> None:
        """Returns None: an encoder serves in float32."""
