"""The two steps of a late-interaction re-ranker: vectors of texts, and the nearest one to each token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.models.caches.state_forms import StateForm, States
from quarry.models.runtime.onnx_runner import count_cores
from quarry.models.tokenization import Tokens
from quarry.models.two_steps.late_head import LateQuery, LateWeights
from quarry.models.two_steps.text_reader import TextReader

BATCH_TOKENS = 2_048
"""A pair whose vectors are kept costs little more than its batch does."""
KEPT_SHARE, PROMISED_SHARE = 0.01, 0.02


@dataclass(frozen=True, slots=True)
class LateParts:
    """The facts about an exported late-interaction re-ranker.

    Attributes:
        states: fingerprint of what is kept of a passage: the encoder's and the projection's.
    """

    states: str


class LateSteps:
    """``Steps`` of a graph that makes states of texts, and of a head."""

    batch_tokens, precision = BATCH_TOKENS, "fp32"
    kept_share, promised_share = KEPT_SHARE, PROMISED_SHARE

    def __init__(self, reader: TextReader, weights: LateWeights, parts: LateParts, form: StateForm) -> None:
        self._reader, self._weights, self.form = reader, weights, form
        self.fingerprint, self.parallel = parts.states, count_cores()

    def encode_queries(self, texts: Sequence[Tokens]) -> list[LateQuery]:
        states = self._reader.read_states(texts)
        return [self._weights.make_query(one, text.ids) for one, text in zip(states, texts, strict=True)]

    def encode_passages(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        return [self._weights.encode_passage(states) for states in self._reader.read_states(texts)]

    def score(self, queries: Sequence[LateQuery], passages: Sequence[States]) -> NDArray[np.float32]:
        scores = np.empty(len(queries), np.float32)
        places_of: dict[int, list[int]] = {}
        for place, query in enumerate(queries):
            places_of.setdefault(id(query), []).append(place)
        for places in places_of.values():
            some = [passages[place] for place in places]
            joined: Any = np.concatenate(some)
            kept = self.form.read(joined).astype(np.float32, copy=False)
            scores[places] = self._weights.score(queries[places[0]], kept, [len(one) for one in some])
        return scores
