"""The part of a ranked list that BM25 finds beyond the depth that is merged, when a page asks for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from quarry.ranking.fusion import ArmRun, Fused
from quarry.ranking.queries import MAX_RANKED, Query
from quarry.ranking.ranking import ArmPlace, RankedDocument, RestByWords
from quarry.ranking.score_scale import ScoreBasis
from quarry.retrieval.retriever import Retrieved
from quarry.search.merging import fuse_runs
from quarry.types import Candidate, Docno


def leave_rest(runs: Sequence[ArmRun], fused: Sequence[Fused]) -> RestByWords:
    """Keeps what is needed of a search to rank the rest of its list."""
    empty = tuple(replace(run, candidates=(), others={}) for run in runs)
    return RestByWords(fused[-1].score if fused else math.inf, empty)


def fuse_below(
    query: Query, rest: RestByWords, arm: str, deep: Retrieved, listed: Sequence[RankedDocument]
) -> list[Fused]:
    """Merges what BM25 found beyond its depth as if the other arms had found nothing.

    Args:
        arm: BM25's name; ``deep`` is what it found.
        listed: documents that are on the list already; those below get what room they leave.
    """
    runs = [
        replace(run, candidates=deep.candidates, high=deep.high) if run.arm == arm else run
        for run in rest.runs
    ]
    known = {document.docno for document in listed}
    below = [fused for fused in fuse_runs(query, runs) if fused.docno not in known]
    return below[: max(0, MAX_RANKED - len(listed))]


def rank_below(
    below: Sequence[Fused],
    ids: Mapping[Docno, tuple[str, int]],
    arm: str,
    candidates: Sequence[Candidate],
    highest: float,
    first: int,
) -> list[RankedDocument]:
    """Ranks those of the documents that exist, in BM25's order, ties by id.

    Nobody compared them by meaning, which could only add to their scores. They are below what was merged, so
    none of them scores more than ``highest``.

    Args:
        candidates: BM25's, best first.
        first: fused rank of the first one.
    """
    places = {c.docno: (rank, c.score) for rank, c in enumerate(candidates, start=1)}

    def make_key(fused: Fused) -> tuple[float, float, str]:
        return -fused.score, -places[fused.docno][1], ids[fused.docno][0]

    alive = sorted((fused for fused in below if fused.docno in ids), key=make_key)
    return [
        RankedDocument(
            fused.docno,
            *ids[fused.docno],
            min(highest, fused.score),
            {arm: ArmPlace(*places[fused.docno], fused.contributions.get(arm, 0.0))},
            fused_rank=rank,
            fused_score=fused.score,
            scored_by=ScoreBasis.BM25,
        )
        for rank, fused in enumerate(alive, start=first)
    ]
