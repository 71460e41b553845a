"""Quarry's own rule: what the collection would really show, less what is likely to be an answer."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Bool, Chosen, Float32, Int32, PairCandidates
from quarry_miner.presets.base import Constants, declare_constant, draw_documents, draw_places

POOL, RANDOM = "pool", "random"


@dataclass(frozen=True)
class Quarry(Constants):
    """Draws from what the live first stage puts before a re-ranker, and drops likely answers.

    The candidates are the first ``pool`` of each member: of the live first stage (``fused``), and of any
    further encoder that is named. These are the documents that a re-ranker has to tell apart when it serves.
    A candidate is dropped if it was clicked for the query, or for a query that shares a clicked document with
    it; if its text is nearly the positive's; if it is clicked together with the positive; or if the serving
    re-ranker's calibrated probability that it answers is ``belief`` or more. One that has ``relabel`` or
    more, and more than the positive, becomes a positive. Without a calibrated re-ranker nothing is dropped or
    re-labelled by it.

    The others are drawn with chances that fall with their place: by ``exp(-(place - 1) / spread)``, place 1
    being the best over all members. A draw instead of the first ones leaves room for answers that nobody has
    clicked yet, and shows training more of the list. What is missing is filled up at random.

    A weight is 1 to 2, by the share of its displays in which a candidate was examined and not chosen.
    """

    name: ClassVar[str] = "quarry"
    members: ClassVar[tuple[str, ...]] = ("fused",)
    pool: int = declare_constant(30, 1, 1_000, "candidates of each member that are drawn from")
    spread: float = declare_constant(
        4.0, 0.1, 1_000_000, "places over which the chance to be drawn falls by e"
    )
    duplicate: float = declare_constant(
        0.95, -1, 1.01, "similarity to the positive from which a text is nearly the same; over 1: none is"
    )
    together: float = declare_constant(
        0.3, 0, 1.01, "overlap of clicks with the positive from which it is an answer"
    )
    belief: float = declare_constant(0.5, 0, 1.01, "calibrated probability from which a candidate is dropped")
    relabel: float = declare_constant(0.9, 0, 1.01, "calibrated probability from which it is a positive")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        place = _find_best_places(pair)
        weights = np.where(
            self._find_answers(pair) | (place > self.pool), 0.0, np.exp((1 - place) / self.spread)
        )
        places = draw_places(np.arange(len(pair), dtype=np.int32), weights.astype(np.float32), count, rng)
        places = places[np.argsort(place[places], kind="stable")]
        sure = _compute_weights(pair)
        chosen = [Chosen(int(pair.documents[i]), POOL, POOL, 0, float(sure[i])) for i in places]
        if len(chosen) < count:
            known = np.concatenate([pair.excluded, pair.documents])
            others = draw_documents(known, count - len(chosen), corpus_size, rng)
            chosen += [Chosen(number, RANDOM, RANDOM) for number in others]
        return [*chosen, *self._relabel(pair, count)]

    def _find_answers(self, pair: PairCandidates) -> Bool:
        """Finds the candidates that are likely to answer the query."""
        # A comparison with NaN, what is not known, is false.
        believed = pair.rerank >= self.belief
        together = pair.coclick >= self.together
        clicked = pair.clicked | pair.clicked_near
        found: Bool = clicked | (pair.s_pd >= self.duplicate) | believed | together
        return found

    def _relabel(self, pair: PairCandidates, count: int) -> list[Chosen]:
        above = (pair.rerank >= self.relabel) & (pair.rerank > pair.rerank_positive)
        places = np.flatnonzero(above)[:count]
        return [Chosen(int(pair.documents[i]), "relabelled:rerank", POOL, 1) for i in places]


def _find_best_places(pair: PairCandidates) -> Int32:
    """Finds the best rank of each candidate over all members that list it, from 1, shape ``(c,)``."""
    listed = np.where(pair.ranks > 0, pair.ranks, np.iinfo(np.int32).max)
    found: Int32 = listed.min(axis=0, initial=np.iinfo(np.int32).max)
    return found


def _compute_weights(pair: PairCandidates) -> Float32:
    """Computes weights of 1 to 2, by the share of its displays in which it was examined and not chosen."""
    examined = np.divide(pair.refusals, pair.shown, out=np.zeros(len(pair), np.float32), where=pair.shown > 0)
    weights: Float32 = (1 + np.minimum(examined, 1)).astype(np.float32)
    return weights
