"""One space of several encoders: their unit vectors side by side, turned and cut by PCA.

Source: section 3 of Meghwani, Agarwal et al., arXiv 2505.18366. What the paper leaves open is decided here
and said in the space's notes: a member's vector of a document is the mean of its passages', at length 1;
PCA is fitted on the documents, centred; vectors are brought to length 1 after it, and compared by cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry_miner.examples import Float32
from quarry_miner.members.lsa import normalize
from quarry_miner.members.matrix import DocumentMatrix
from quarry_miner.members.members import ENSEMBLE
from quarry_miner.members.spaces import VectorSpace

KEPT_VARIANCE = 0.95
DRIFT = 0.02
"""A basis is kept while it explains at most this much less of new documents' variance than of those it was
fitted on: the paper found 99 % no better than 95 %, and 80 % clearly worse."""
ROWS = 8_192
"""Documents in memory at double precision at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class PcaBasis:
    """A fitted PCA.

    Attributes:
        mean: float32, shape ``(width,)``, of the documents it was fitted on.
        components: float32, shape ``(width, kept)``, orthonormal columns, largest variance first.
        explained: share of the variance that they keep, at least what was asked for.
    """

    mean: Float32
    components: Float32
    explained: float

    def project(self, rows: Float32) -> Float32:
        """Projects to unit vectors, shape ``(len(rows), kept)``.

        Row by row, so that none depends on the others.
        """
        if not len(rows):
            return np.empty((0, self.components.shape[1]), np.float32)
        return normalize(np.stack([(row - self.mean) @ self.components for row in rows]))


class EnsembleQueries:
    """Queries by every part, then through the basis."""

    def __init__(self, parts: Sequence[VectorSpace], basis: PcaBasis) -> None:
        self._parts, self.basis = parts, basis

    def embed(self, texts: Sequence[str]) -> Float32:
        if not texts:
            return self.basis.project(np.empty((0, len(self.basis.mean)), np.float32))
        rows = np.concatenate([normalize(part.queries.embed(texts)) for part in self._parts], axis=1)
        return self.basis.project(rows)


def build_ensemble(
    parts: Sequence[VectorSpace], kept_variance: float = KEPT_VARIANCE, known: PcaBasis | None = None
) -> tuple[VectorSpace, PcaBasis]:
    """Joins the parts' vectors; returns them and the basis, which a later run may give as ``known``.

    A known basis is used if it has the width of the parts and has not drifted; else one is fitted.
    """
    joined = np.concatenate([average_documents(part.documents) for part in parts], axis=1)
    fits = known is not None and len(known.mean) == joined.shape[1] and not has_drifted(known, joined)
    basis = known if known is not None and fits else fit_basis(joined, kept_variance)
    documents = normalize(
        np.concatenate([(some - basis.mean) @ basis.components for some in _split_blocks(joined)])
    )
    notes = (
        f"ensemble of {', '.join(part.name for part in parts)}: unit vectors joined, {joined.shape[1]} wide",
        f"pca: {basis.components.shape[1]} dimensions keep {basis.explained:.3f} of the variance; "
        + ("basis of an earlier run" if fits else "fitted on the documents, centred")
        + ", vectors brought to length 1 after it",
        "a member's vector of a document is the mean of its passages' vectors",
        *(note for part in parts for note in part.notes),
    )
    space = VectorSpace(
        ENSEMBLE, DocumentMatrix.from_vectors(documents), EnsembleQueries(tuple(parts), basis), notes
    )
    return space, basis


def fit_basis(rows: Float32, kept_variance: float = KEPT_VARIANCE) -> PcaBasis:
    """Fits the fewest principal components that keep ``kept_variance``, from a covariance summed in
    blocks."""
    mean: NDArray[np.float64] = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for some in _split_blocks(rows):
        centred = some.astype(np.float64) - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    shares = np.cumsum(values) / max(values.sum(), np.finfo(np.float64).tiny)
    kept = min(int(np.searchsorted(shares, kept_variance - 1e-12)) + 1, len(values))
    # The sign of an eigenvector is arbitrary: its largest entry is made positive.
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(values))])
    return PcaBasis(
        mean.astype(np.float32), vectors[:, :kept].astype(np.float32, order="C"), float(shares[kept - 1])
    )


def measure_explained(basis: PcaBasis, rows: Float32) -> float:
    """Measures the share of the variance of ``rows`` about the basis's mean that its components keep; 1 of
    no rows."""
    total = kept = 0.0
    for some in _split_blocks(rows):
        centred = some - basis.mean
        total += float(np.square(centred, dtype=np.float64).sum())
        kept += float(np.square(centred @ basis.components, dtype=np.float64).sum())
    return kept / total if total else 1.0


def has_drifted(basis: PcaBasis, new_rows: Float32, allowed: float = DRIFT) -> bool:
    """Tells whether the basis explains new documents so much worse that it should be fitted again."""
    return basis.explained - measure_explained(basis, new_rows) > allowed


def average_documents(matrix: DocumentMatrix) -> Float32:
    """Averages passages to one unit vector a document; zeros for a document without passages."""
    if matrix.is_flat:
        return normalize(matrix.vectors)
    sums = np.zeros((len(matrix), matrix.vectors.shape[1]), np.float32)
    present = np.diff(matrix.offsets) > 0
    if present.any():
        sums[present] = np.add.reduceat(matrix.vectors, matrix.offsets[:-1][present], axis=0)
    return normalize(sums)


def _split_blocks(rows: Float32) -> list[Float32]:
    return [rows[start : start + ROWS] for start in range(0, max(len(rows), 1), ROWS)]
