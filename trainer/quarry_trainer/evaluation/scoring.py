"""Scores of candidates by a cross-encoder as it serves, and the order that a blend makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from quarry.models.base import CrossEncoder, PairScore
from quarry.models.blend import Blend
from quarry.models.caches.state_cache import StateCache
from quarry.models.cross_encoder import load_cross_encoder
from quarry.models.runtime.runner import Device, Precision
from quarry_trainer.data.live import Counted, Float64, RankedQuery

PAIRS_AT_ONCE = 4_096
"""Pairs whose tokens are in memory together; they are packed by length."""

FUSED_ALONE = Blend(rerank=0.0, fused=1.0)


class PairModel(Protocol):
    """A model of (query, passage) pairs; a ``CrossEncoder`` is one."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        """Returns one score a pair, in order, higher is better. Blocks."""
        ...


class ReadOnce:
    """A model that reads each pair once, however often it is asked: blend, verdict and calibration of one
    training look at the same queries."""

    def __init__(self, model: PairModel) -> None:
        self._model = model
        self._known: dict[tuple[str, str], PairScore] = {}

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
        missing = list(dict.fromkeys(pair for pair in pairs if pair not in self._known))
        self._known.update(zip(missing, self._model.score(missing), strict=True))
        return [self._known[pair] for pair in pairs]


def find_own_folder(folder: Path, data: Path) -> Path | None:
    """Returns ``folder``, if it lies in the server's data: a version's export, or that of a model in the
    making, lies beside it and goes with it. None for any other model, whose export the server keeps."""
    return folder if folder.resolve().is_relative_to(data.resolve()) else None


def load_as_served(
    folder: Path, data: Path, precision: Precision, states: StateCache | None = None
) -> CrossEncoder:
    """Loads the cross-encoder in ``folder`` as a server runs it whose data folder is ``data``; int8 is for
    the CPU.

    Raises:
        ModelError: it cannot be loaded.
    """
    device: Device = "cpu" if precision == "int8" else "auto"
    return load_cross_encoder(str(folder), data, device, find_own_folder(folder, data), states, precision)


def score_ranked(
    model: PairModel, ranked: Sequence[RankedQuery], counted: Counted | None = None
) -> list[Float64]:
    """Scores each query's candidates by the model, float64, shape ``(n,)``; higher is better.

    Raises:
        ModelError: a score is not finite.
    """
    scores: list[Float64] = []
    for some in _batch_queries(ranked):
        pairs = [(query.text, passage) for query in some for passage in query.passages]
        flat = np.array([one.score for one in model.score(pairs)], np.float64)
        scores += np.split(flat, np.cumsum([len(query) for query in some])[:-1])
        if counted is not None:
            counted(len(scores), len(ranked))
    return scores


def order_by_blend(query: RankedQuery, scores: Float64, blend: Blend) -> tuple[str, ...]:
    """Orders the candidates as a server with this model and blend gives them out: best first, ties by id, or
    in fused order where the fused score counts (``quarry.search.reranking``)."""
    blended = blend.rerank * scores + blend.fused * query.fused

    def make_served_key(place: int) -> tuple[float, int, str]:
        return -blended[place], place if blend.fused else 0, query.documents[place]

    return tuple(query.documents[place] for place in sorted(range(len(query)), key=make_served_key))


def _batch_queries(ranked: Sequence[RankedQuery]) -> list[list[RankedQuery]]:
    groups: list[list[RankedQuery]] = []
    pairs = 0
    for query in ranked:
        if not groups or pairs + len(query) > PAIRS_AT_ONCE:
            groups.append([])
            pairs = 0
        groups[-1].append(query)
        pairs += len(query)
    return groups
