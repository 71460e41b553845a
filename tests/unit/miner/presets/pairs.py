"""Pairs for the tests of presets: by hand, and any at all."""

import numpy as np
from hypothesis import strategies as st

from quarry_miner.examples import PairCandidates, Positive

MEMBERS = ("dense", "bm25", "lsa")


def pair(
    s_qd: list[float],
    s_pd: list[float] | None = None,
    s_qp: float = 0.5,
    documents: list[int] | None = None,
    ranks: list[list[int]] | None = None,
    scores: list[list[float]] | None = None,
    positive_scores: list[float] | None = None,
    members: tuple[str, ...] = MEMBERS,
    **evidence: list[float] | float,
) -> PairCandidates:
    """Candidates 1, 2, ... of positive 0, listed by the dense member alone unless ``ranks`` says else."""
    size = len(s_qd)
    given = {name: np.array(value, np.float32) for name, value in evidence.items()}
    listed = np.zeros((len(members), size), np.int32)
    listed[:1] = np.arange(1, size + 1)
    raw = np.full((len(members), size), np.nan, np.float32)
    raw[:1] = s_qd
    nothing, unknown = np.zeros(size, np.float32), np.full(size, np.nan, np.float32)
    return PairCandidates(
        query=0,
        positive=Positive(0),
        documents=np.arange(1, size + 1, dtype=np.int32)
        if documents is None
        else np.array(documents, np.int32),
        s_qd=np.array(s_qd, np.float32),
        s_pd=np.array(s_pd if s_pd is not None else [0.0] * size, np.float32),
        s_qp=s_qp,
        members=members,
        ranks=listed if ranks is None else np.array(ranks, np.int32),
        scores=raw if scores is None else np.array(scores, np.float32),
        positive_ranks=np.zeros(len(members), np.int32),
        positive_scores=np.array(
            [np.nan] * len(members) if positive_scores is None else positive_scores, np.float32
        ),
        shown=given.get("shown", nothing),
        refusals=given.get("refusals", nothing),
        clicked=given.get("clicked", nothing) > 0,
        clicked_near=given.get("clicked_near", nothing) > 0,
        coclick=given.get("coclick", unknown),
        judged=given.get("judged", given.get("rerank", unknown)),
        rerank=given.get("rerank", unknown),
        rerank_positive=float(given.get("rerank_positive", np.float32(np.nan))),
        excluded=np.array([0], np.int32),
        batch=np.array([0, 3, 5, 7], np.int32),
    )


@st.composite
def any_pairs(draw: st.DrawFn) -> PairCandidates:
    """Up to 30 candidates with any figures, some unknown; best first by s_qd, as the miner gives them."""
    size = draw(st.integers(0, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    low = draw(st.sampled_from([-1.0, 0.0]))
    s_qd = np.sort(rng.uniform(low, 1, size))[::-1]
    ranks = np.zeros((len(MEMBERS), size), np.int32)
    for row in ranks:
        listed = rng.random(size) < 0.7
        row[listed] = rng.permutation(int(listed.sum())) + 1
    scores = np.where(ranks > 0, 1.0 / np.maximum(ranks, 1), np.nan)
    known = rng.random(size) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    shown = np.where(rng.random(size) < 0.5, rng.integers(1, 20, size), 0)
    return pair(
        s_qd=s_qd.tolist(),
        s_pd=rng.uniform(-1, 1, size).tolist(),
        s_qp=float(rng.uniform(low, 1)),
        ranks=ranks.tolist() if size else [[]] * 3,
        scores=scores.tolist() if size else [[]] * 3,
        positive_scores=rng.uniform(0, 1, len(MEMBERS)).tolist(),
        shown=shown.tolist(),
        refusals=(shown * rng.random(size)).tolist(),
        clicked=(rng.random(size) < 0.1).tolist(),
        coclick=np.where(known, rng.random(size), np.nan).tolist(),
        rerank=np.where(known, rng.random(size), np.nan).tolist(),
        rerank_positive=float(rng.random()),
    )
