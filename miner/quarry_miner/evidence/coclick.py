"""The graph of documents that are clicked together, and how much two documents' neighbourhoods overlap.

Source: neighbourhood overlap after Fan, Pu, Zhang and Wu, Neighborhood-based Hard Negative Mining for
Sequential Recommendation (GNNO), SIGIR 2023, arXiv 2306.10047, with queries and visits in place of purchase
histories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from quarry_miner.examples import Bool, Float32, Int32

Int64 = NDArray[np.int64]

MOST_APART = 3
"""Clicks of one visit are joined up to this distance, as in GNNO's released code."""


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """Every click that counts, in order of time.

    Attributes:
        query: int, shape ``(k,)``: numbers of queries. So are ``session`` and ``document``.
    """

    query: Int32
    session: Int32
    document: Int32


class CoclickGraph:
    """Documents joined where they were clicked for one query or in one visit.

    An edge weighs 1 for each query that both were clicked for, and 1 / distance for each two clicks of a
    visit, up to ``MOST_APART`` apart. Neighbourhoods are closed: a document is its own neighbour. In the
    paper they are open, and two documents that are only ever clicked together would not overlap at all,
    though nothing says more clearly that they serve one need.

    Args:
        documents: numbers in ``clicks`` are below it.
        least_weight: of an edge that counts.
    """

    def __init__(self, clicks: Clicks, documents: int, least_weight: float = 1 / MOST_APART) -> None:
        self._documents = documents
        queries = int(clicks.query.max(initial=-1)) + 1
        ones = np.ones(len(clicks.document), np.float32)
        self._chosen = sparse.csr_array((ones, (clicks.query, clicks.document)), shape=(queries, documents))
        self._chosen.data[:] = 1.0
        weights = (self._chosen.T @ self._chosen + _count_visits(clicks, documents)).tocsr()
        weights.data[weights.data < least_weight - 1e-6] = 0.0
        weights.setdiag(0.0)
        weights.eliminate_zeros()
        self._known: Bool = np.bincount(clicks.document, minlength=documents) > 0
        weights.data[:] = 1.0
        self._neighbours = (weights + sparse.diags_array(self._known.astype(np.float32))).tocsr()
        self._sizes = np.asarray(self._neighbours.sum(axis=1)).ravel()

    def measure_overlap(self, first: Int32, second: Int32) -> Float32:
        """Measures the Jaccard index of the neighbourhoods of ``first[i]`` and ``second[i]``; NaN if one has
        no click.

        Args:
            first: few distinct documents. A sparse product over all of ``second`` is made of each.
            second: as many.
        """
        distinct, place = np.unique(first, return_inverse=True)
        shared = (self._neighbours[distinct] @ self._neighbours.T).tocsr()
        common = look_up(shared, place, second)
        with np.errstate(invalid="ignore"):
            found = common / (self._sizes[first] + self._sizes[second] - common)
        found[~(self._known[first] & self._known[second])] = np.nan
        overlap: Float32 = found.astype(np.float32)
        return overlap

    def find_near(self, queries: Int32, documents: Int32) -> Bool:
        """Finds whether each document was clicked for a query that shares a clicked one with ``queries[i]``.

        A query without a click shares none, whatever its number.
        """
        found = np.zeros(len(queries), np.bool_)
        clicked = queries < self._chosen.shape[0]
        distinct, place = np.unique(queries[clicked], return_inverse=True)
        others = (self._chosen[distinct] @ self._chosen.T) @ self._chosen
        found[clicked] = look_up(others.tocsr(), place, documents[clicked]) > 0
        return found


def _count_visits(clicks: Clicks, documents: int) -> "sparse.csr_array":
    """Counts visits: symmetric weights from the order of clicks within them."""
    order = np.argsort(clicks.session, kind="stable")
    session, document = clicks.session[order], clicks.document[order]
    total = sparse.csr_array((documents, documents), dtype=np.float32)
    for distance in range(1, min(MOST_APART, len(order) - 1) + 1):
        together = session[distance:] == session[:-distance]
        first, second = document[:-distance][together], document[distance:][together]
        weights = np.full(len(first), 1 / distance, np.float32)
        found = sparse.csr_array((weights, (first, second)), shape=(documents, documents))
        total = total + found + found.T
    return total


def look_up(matrix: "sparse.csr_array", rows: NDArray[np.integer], columns: Int32) -> Float32:
    """Looks up entries of a sparse matrix, 0 where there is none."""
    matrix.sort_indices()
    width = matrix.shape[1]
    owners = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return find_values(owners * width + matrix.indices, matrix.data, rows.astype(np.int64) * width + columns)


def find_values(keys: Int64, values: NDArray[np.floating], wanted: Int64) -> Float32:
    """Finds the value of each wanted key, keys being ascending; 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.float32)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Float32 = np.where(keys[place] == wanted, values[place], 0).astype(np.float32)
    return found
