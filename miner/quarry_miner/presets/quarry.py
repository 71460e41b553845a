"""Quarry's own rule: as hard as evidence allows, rung by rung."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quarry_miner.examples import Bool, Chosen, Float32, PairCandidates
from quarry_miner.presets.base import Constants, constant, random_documents
from quarry_miner.presets.controls import by_bm25
from quarry_miner.presets.positive_aware import below_share
from quarry_miner.presets.suspicion import hardness, suspicion

HARD, BAND, BM25, RANDOM = "hard", "band", "bm25", "random"
RULES = ("", "refuted:examined", "refuted:rerank", "refuted:coclick", "refuted:geometry")


@dataclass(frozen=True)
class Quarry(Constants):
    """Takes the hardest candidates that nothing suggests are answers.

    A candidate is dropped if it was clicked for the query, if its text is nearly the positive's, if the
    re-ranker believes in it, or if it is clicked together with the positive: one that the re-ranker puts
    above the positive with ``relabel`` or more is re-labelled instead. Of the others a candidate above the
    positive (rung ``hard``) or in the band below it (``band``) is kept if evidence refutes it: it was
    examined and skipped often, or the re-ranker disbelieves it, or the geometry of the pair does not make it
    suspicious (``suspicion.py``). With ``apart`` over 0 also if feedback covers both and they are hardly ever
    clicked together; that is off, for in a log of few clicks it is no evidence: two thirds of what it refuted
    and assessors judged were relevant (benchmarks/click_evidence.py). What is missing is
    filled up from BM25's list below the positive, then at random.

    A weight grows with the share of the members that list the document, and with the share of its displays
    that were examined.
    """

    name: ClassVar[str] = "quarry"
    members: ClassVar[tuple[str, ...]] = ("dense", "bm25", "lsa")
    share: float = constant(
        0.95, 0, 1, "of s(q,p): candidates above it are on the rung `hard`, others on `band`"
    )
    bound: float = constant(-0.5, -20, 20, "suspicion that a candidate stays under")
    near_query: float = constant(0.5, 0, 10, "what nearness to the query counts in suspicion")
    positive_first: float = constant(1.25, 0, 10, "what the positive's nearness to the query takes off it")
    lexical: float = constant(0.3, 0, 10, "what the other members' scores count in hardness")
    duplicate: float = constant(
        0.95, -1, 1, "similarity to the positive from which a text is nearly the same"
    )
    refusals: float = constant(3.0, 0, 1_000_000, "examined and not chosen so often, a candidate is refuted")
    disbelief: float = constant(0.1, 0, 1, "re-ranker's probability under which a candidate is refuted")
    belief: float = constant(0.5, 0, 1, "re-ranker's probability from which a candidate is dropped")
    relabel: float = constant(
        0.9, 0, 1, "re-ranker's probability from which one above the positive is a positive"
    )
    apart: float = constant(0.0, 0, 1, "overlap of clicks under which a candidate is refuted; 0: none is")
    together: float = constant(0.3, 0, 1, "overlap of clicks from which a candidate is dropped")

    def select(
        self, pair: PairCandidates, count: int, corpus_size: int, rng: np.random.Generator
    ) -> list[Chosen]:
        suspects = self._suspects(pair)
        rules = self._rules(pair)
        refuted = np.array([bool(rule) for rule in rules], np.bool_)
        below = below_share(pair.s_qd, pair.s_qp_least, self.share)
        places = np.flatnonzero(~suspects & refuted)
        places = places[np.argsort(-hardness(pair, self.lexical)[places], kind="stable")][:count]
        weights = _weights(pair)
        chosen = [
            Chosen(int(pair.documents[i]), rules[i], BAND if below[i] else HARD, 0, float(weights[i]))
            for i in places
        ]
        if len(chosen) < count:
            chosen += self._filled(pair, chosen, suspects | ~below, count, corpus_size, rng)
        return [*chosen, *self._relabelled(pair, count)]

    def _suspects(self, pair: PairCandidates) -> Bool:
        """Likely answers, whatever else speaks for them as negatives."""
        # A comparison with NaN, what is not known, is false.
        believed = (pair.rerank >= self.belief) | (pair.rerank > pair.rerank_positive)
        together = pair.coclick >= self.together
        found: Bool = pair.clicked | (pair.s_pd >= self.duplicate) | believed | together
        return found

    def _rules(self, pair: PairCandidates) -> list[str]:
        """What refutes each candidate; empty if nothing does."""
        examined = (pair.refusals > 0) & (pair.refusals >= self.refusals)
        disbelieved = pair.rerank < self.disbelief
        apart = pair.coclick < self.apart
        clear = suspicion(pair, self.near_query, self.positive_first) <= self.bound
        found = np.select([examined, disbelieved, apart, clear], np.arange(1, 5), default=0)
        return [RULES[number] for number in found.tolist()]

    def _filled(
        self,
        pair: PairCandidates,
        chosen: list[Chosen],
        refused: Bool,
        count: int,
        corpus_size: int,
        rng: np.random.Generator,
    ) -> list[Chosen]:
        taken = {one.document for one in chosen} | set(pair.documents[refused].tolist())
        lexical = [number for number in by_bm25(pair) if number not in taken][: count - len(chosen)]
        lowest = 1 / (1 + len(pair.members))
        filled = [Chosen(number, BM25, BM25, 0, 2 * lowest) for number in lexical]
        missing = count - len(chosen) - len(filled)
        if missing:
            known = np.concatenate([pair.excluded, pair.documents])
            drawn = random_documents(known, missing, corpus_size, rng)
            filled += [Chosen(number, RANDOM, RANDOM, 0, lowest) for number in drawn]
        return filled

    def _relabelled(self, pair: PairCandidates, count: int) -> list[Chosen]:
        above = (pair.rerank >= self.relabel) & (pair.rerank > pair.rerank_positive)
        places = np.flatnonzero(above)[:count]
        return [Chosen(int(pair.documents[i]), "relabelled:rerank", HARD, 1) for i in places]


def _weights(pair: PairCandidates) -> Float32:
    """(1 + agreement) / (1 + members), times 1 to 2 by how much of its displays was examined."""
    examined = np.divide(pair.refusals, pair.shown, out=np.zeros(len(pair), np.float32), where=pair.shown > 0)
    agreed = (1 + pair.agreement) / np.float32(1 + len(pair.members))
    weights: Float32 = (agreed * (1 + np.minimum(examined, 1))).astype(np.float32)
    return weights
