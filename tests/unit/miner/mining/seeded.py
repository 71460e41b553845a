"""A corpus of words, and members over it that need no model."""

import hashlib
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from quarry.schema import DEFAULT_SCHEMA
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.pair_evidence import NoEvidence, PairEvidence
from quarry_miner.examples import Float32, MiningQuery, Positive
from quarry_miner.members.matrix import DocumentMatrix
from quarry_miner.members.members import Listed, VectorMember
from quarry_miner.members.spaces import VectorSpace
from quarry_miner.mining.task import MiningTask

WORDS = [f"{a}{b}" for a in ("ba", "de", "fi", "go", "lu") for b in ("ra", "ne", "so", "ti", "ku", "me")]
DIMENSION = 24


def vectors(texts: Sequence[str]) -> Float32:
    """Sums of a vector for each word, at length 1."""
    rows = [np.sum([_word(word) for word in text.split()] or [_word("")], axis=0) for text in texts]
    return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def _word(word: str) -> Float32:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


class WordVectors:
    def embed(self, texts: Sequence[str]) -> Float32:
        return vectors(texts) if texts else np.empty((0, DIMENSION), np.float32)


class WordMember:
    """Shared words, weighed by how rare they are: every document changes every score a little."""

    name = "bm25"

    def __init__(self, corpus: Corpus) -> None:
        self._words = [set(text.split()) for text in corpus.iterate_texts()]
        self.asked: list[str] = []

    def search(self, queries: Sequence[str], depth: int) -> Listed:
        self.asked += queries
        rows = []
        for query in queries:
            wanted = {word: self._rarity(word) for word in sorted(query.split())}
            scored = [
                (-sum(wanted[w] for w in wanted if w in words), n) for n, words in enumerate(self._words)
            ]
            best = sorted(one for one in scored if one[0] < 0)[:depth]
            rows.append(([n for _, n in best], [-score for score, _ in best]))
        return Listed.from_rows(rows, depth)

    def _rarity(self, word: str) -> float:
        count = sum(word in words for words in self._words)
        return float(np.log(1 + len(self._words) / (1 + count)))


def seeded_texts(count: int, seed: int = 0) -> dict[str, str]:
    random = Random(seed)
    return {f"d{n:03}": " ".join(random.choices(WORDS, k=random.randint(4, 9))) for n in range(count)}


def seeded_queries(texts: Mapping[str, str], count: int, seed: int = 1) -> dict[str, tuple[str, list[str]]]:
    """Text and relevant ids by query id: words of the relevant document."""
    random = Random(seed)
    chosen = random.sample(sorted(texts), count)
    return {f"q{n:03}": (" ".join(texts[id].split()[:3]), [id]) for n, id in enumerate(chosen)}


def task_of(
    texts: Mapping[str, str],
    queries: Mapping[str, tuple[str, Sequence[str]]],
    depth: int = 20,
    feedback: PairEvidence | None = None,
) -> MiningTask:
    """Positives that the texts lack are left out, and queries without one."""
    corpus = Corpus.from_documents([(id, {"text": texts[id]}) for id in sorted(texts)], DEFAULT_SCHEMA)
    space = VectorSpace(
        "dense", DocumentMatrix.from_vectors(vectors(list(corpus.iterate_texts()))), WordVectors()
    )
    found = [
        MiningQuery(id, text, tuple(Positive(corpus.numbers[p]) for p in relevant if p in corpus.numbers))
        for id, (text, relevant) in queries.items()
    ]
    return MiningTask(
        tuple(query for query in found if query.positives),
        corpus,
        (VectorMember(space), WordMember(corpus)),
        space,
        feedback=NoEvidence() if feedback is None else feedback,
        depth=depth,
    )
