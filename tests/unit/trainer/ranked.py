"""Ranked queries for tests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quarry_trainer.data.live import RankedQuery


def ranked_query(
    query_id: str, documents: Sequence[str], fused: Sequence[float] | None = None, text: str = "a query"
) -> RankedQuery:
    """Best first; fused scores fall evenly from 1 unless given."""
    n = len(documents)
    scores = np.linspace(1.0, 0.5, n) if fused is None else np.array(fused, np.float64)
    return RankedQuery(
        query_id, text, tuple(documents), scores, tuple(f"text of {d}" for d in documents), (("dense",),) * n
    )


def candidates(queries: int, depth: int = 20) -> list[RankedQuery]:
    """Queries ``q0``, ``q1``, ... with documents ``q0-0``, ``q0-1``, ... of their own."""
    return [ranked_query(f"q{n}", [f"q{n}-{place}" for place in range(depth)]) for n in range(queries)]


def grades_of(
    ranked: Sequence[RankedQuery], random: np.random.Generator, relevant: int = 1, towards_top: float = 0.0
) -> dict[str, dict[str, int]]:
    """``relevant`` documents of each query, drawn evenly or, the larger ``towards_top``, from the top."""
    found: dict[str, dict[str, int]] = {}
    for query in ranked:
        weight = np.exp(-towards_top * np.arange(len(query)))
        chosen = random.choice(len(query), relevant, replace=False, p=weight / weight.sum())
        found[query.query_id] = {query.documents[place]: 1 for place in chosen}
    return found


def scores_by(
    ranked: Sequence[RankedQuery],
    qrels: dict[str, dict[str, int]],
    random: np.random.Generator,
    skill: float,
    scale: float = 3.0,
) -> list[NDArray[np.float64]]:
    """Scores of a model that adds ``skill`` to what is relevant, over noise of 1, all times ``scale``."""
    return [
        scale
        * (
            random.standard_normal(len(query))
            + skill * np.array([qrels[query.query_id].get(id, 0) for id in query.documents])
        )
        for query in ranked
    ]
