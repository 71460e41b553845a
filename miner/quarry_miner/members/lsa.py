"""Latent semantic analysis of the corpus: a member that needs no model and knows the corpus's own words.

Source: Deerwester et al., Indexing by latent semantic analysis, JASIS 1990; by TF-IDF and a truncated SVD.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from quarry.mining.members import LSA
from quarry_miner.corpus import Corpus
from quarry_miner.examples import Float32
from quarry_miner.members.matrix import DocumentMatrix
from quarry_miner.members.spaces import VectorSpace

DIMENSIONS = 256
RAREST = 2
"""Documents that a word must occur in, where there are ``MANY`` documents or more."""
MANY = 100
MOST_WORDS = 100_000


class LsaQueries:
    """Words of queries into the fitted space; a query without a known word is the zero vector."""

    def __init__(self, words: TfidfVectorizer, projection: TruncatedSVD) -> None:
        self._words, self._projection = words, projection

    def embed(self, texts: Sequence[str]) -> Float32:
        if not texts:
            return np.empty((0, len(self._projection.components_)), np.float32)
        return normalize(self._projection.transform(self._words.transform(texts)))


def fit_lsa(corpus: Corpus, seed: int, dimensions: int = DIMENSIONS) -> VectorSpace:
    """Fits one vector a document, of its whole text. The same corpus and seed give the same vectors. Blocks.

    Similarity to a document that shares no word with others is 0.
    """
    words = TfidfVectorizer(
        sublinear_tf=True,
        min_df=RAREST if len(corpus) >= MANY else 1,
        max_features=MOST_WORDS,
        strip_accents="unicode",
        token_pattern=r"(?u)\b\w+\b",  # noqa: S106  # no password
        dtype=np.float32,
    )
    counts = words.fit_transform(corpus.iterate_texts())
    # A truncated SVD must have fewer dimensions than there are words and documents.
    size = max(1, min(dimensions, counts.shape[1] - 1, counts.shape[0] - 1))
    projection = TruncatedSVD(size, algorithm="randomized", random_state=seed % 2**32)
    vectors = normalize(projection.fit_transform(counts))
    note = f"lsa: {size} dimensions of {counts.shape[1]} words, fitted on the corpus with seed {seed}"
    return VectorSpace(LSA, DocumentMatrix.from_vectors(vectors), LsaQueries(words, projection), (note,))


def normalize(vectors: Float32) -> Float32:
    """Scales rows to length 1; rows of zeros stay."""
    # In double precision: the order of summing, and with it the last bit, depends on the number of rows.
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    scaled: Float32 = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
