"""Known and unseen queries apart, for choices: training saw a relevant document of the former."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quarry_trainer.measures import Float64

Places = NDArray[np.int64]

LEAST_OF_HALF = 5
"""Questions of each that it needs to tell them apart at all: the mean of fewer is mostly chance. Queries with
the same relevant documents are one question."""


def split_by_known(
    judged: Sequence[str], clusters: Sequence[object], known: Mapping[str, bool] | None
) -> list[Places]:
    """Splits the places of known and of unseen queries; of all, where one of these has too few to speak for
    itself.

    Args:
        judged: their ids; those that ``known`` does not name count as known.
        clusters: the question that each of them asks (``list_clusters``).
        known: None: nothing is told apart.
    """
    if known is not None:
        is_known = np.array([known.get(id, True) for id in judged], bool)
        parts = [np.flatnonzero(is_known), np.flatnonzero(~is_known)]
        if min(len({clusters[int(at)] for at in part}) for part in parts) >= LEAST_OF_HALF:
            return parts
    return [np.arange(len(judged))]


def average_over_parts(values: Float64, known_and_unseen: Sequence[Places]) -> float:
    """Averages over queries; both parts count alike, however many queries are in each."""
    return float(np.mean([values[some].mean() for some in known_and_unseen]))
