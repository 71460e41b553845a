"""Several teachers for one example: each brings its own best survivors, and agreement is kept as weight.

Source: section on teacher ensembles of Moreira et al., NV-Retriever, arXiv 2407.15831: bringing several
teachers' picks into each example beat the best single one, and more so if a document picked twice counted
twice.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Chosen, PairCandidates
from quarry_miner.presets.base import Constants, declare_constant
from quarry_miner.presets.positive_aware import is_below_share


@dataclass(frozen=True)
class IntraSample(Constants):
    """Members take turns, each with its next survivor of ``perc-pos`` by its own scores.

    A document weighs as many as have picked it. A member that does not list the positive has nothing to
    measure by, and brings nothing.
    """

    name: ClassVar[str] = "intra-sample"
    members: ClassVar[tuple[str, ...]] = ("dense", "bm25", "lsa")
    share: float = declare_constant(
        0.95, 0, 1, "of the positive's score by the same member, that a negative stays under"
    )

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        picked: dict[int, int] = {}
        turns = [self._list_survivors(pair, member) for member in range(len(pair.members))]
        for turn in range(max((len(places) for places in turns), default=0)):
            for places in turns:
                if turn < len(places) and (len(picked) < count or places[turn] in picked):
                    picked[places[turn]] = picked.get(places[turn], 0) + 1
            if len(picked) >= count:
                break
        return [
            Chosen(int(pair.documents[place]), self.name, self.name, weight=float(times))
            for place, times in picked.items()
        ]

    def _list_survivors(self, pair: PairCandidates, member: int) -> list[int]:
        positive = float(pair.positive_scores[member])
        if np.isnan(positive):
            return []
        listed = np.flatnonzero(pair.ranks[member] > 0)
        kept = listed[is_below_share(pair.scores[member, listed], positive, self.share)]
        ordered: list[int] = kept[np.argsort(pair.ranks[member, kept])].tolist()
        return ordered
