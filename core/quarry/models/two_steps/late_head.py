"""The learned part of a late-interaction re-ranker, in numpy: states of tokens to vectors, and to scores.

What is kept of a passage is an array with rows of as many numbers as a vector has: first its mean state, of
unit length, cut into rows, then a vector of each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from quarry.errors import ModelError
from quarry.quoting import quote_error

HEAD_FILE = "late.npz"
"""Beside the graph that makes states: the arrays below by name."""
Floats = NDArray[np.float32]
_SMALLEST = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class LateQuery:
    """A query as it is compared.

    Attributes:
        vectors: shape ``(tokens, dimension)``.
        weights: of each token, times the factor of their part; their sum is that factor.
        mean: of the states, of the length that the cosine counts; shape ``(width,)``.
    """

    vectors: Floats
    weights: Floats
    mean: Floats

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, eq=False)
class LateWeights:
    """The head of a late-interaction re-ranker; see ``quarry.models.torch_modules.late_module.LateHead``.

    Attributes:
        token_weights: what a token counts, not its logarithm.
        scale: factor of the tokens' part.
    """

    projection: Floats
    offset: Floats
    token_weights: Floats
    scale: Floats
    dense_weight: Floats

    @property
    def mean_rows(self) -> int:
        """Rows that a mean state takes among those of the vectors."""
        dimension, width = self.projection.shape
        return -(-int(width) // int(dimension))

    def save(self, folder: Path) -> None:
        arrays = {name: getattr(self, name) for name in self.__slots__}
        np.savez(folder / HEAD_FILE, **arrays)

    def make_query(self, states: Floats, ids: NDArray[np.int64]) -> LateQuery:
        weights = self.token_weights[ids]
        counted = self.scale * weights / max(float(weights.sum()), 1e-9)
        return LateQuery(self._make_vectors(states), counted, self.dense_weight * _average(states))

    def encode_passage(self, states: Floats) -> Floats:
        """Encodes a passage as it is kept, shape ``(mean_rows + tokens, dimension)``."""
        dimension = len(self.projection)
        mean = np.zeros(self.mean_rows * dimension, np.float32)
        mean[: states.shape[1]] = _average(states)
        return np.concatenate([mean.reshape(-1, dimension), self._make_vectors(states)])

    def score(self, query: LateQuery, passages: Floats, lengths: Sequence[int]) -> Floats:
        """Scores passages that were kept, one below the other; ``lengths`` are their rows."""
        starts = np.cumsum([0, *lengths[:-1]])
        rows = self.mean_rows
        bounds = np.stack([starts, starts + rows], axis=1).ravel()
        nearest = np.maximum.reduceat(query.vectors @ passages.T, bounds, axis=1)[:, 1::2]
        means = passages[(starts[:, None] + np.arange(rows)).ravel()].reshape(len(lengths), -1)
        found: Floats = query.weights @ nearest + means[:, : len(query.mean)] @ query.mean
        return found

    def _make_vectors(self, states: Floats) -> Floats:
        return _normalize(_normalize(states) @ self.projection.T + self.offset)


def load_late_weights(folder: Path) -> LateWeights:
    """Raises ModelError if the file cannot be read."""
    try:
        with np.load(folder / HEAD_FILE, allow_pickle=False) as arrays:
            return LateWeights(**{name: arrays[name] for name in LateWeights.__slots__})
    except (OSError, EOFError, BadZipFile, ValueError, KeyError) as error:
        raise ModelError(f"{folder / HEAD_FILE} cannot be read: {quote_error(error)}") from error


def _average(states: Floats) -> Floats:
    found: Floats = _normalize(states.mean(axis=0, dtype=np.float32)[None])[0]
    return found


def _normalize(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    found: Floats = rows / np.maximum(length, _SMALLEST)
    return found
