"""The candidates of the arms before they are merged, as messages."""

from collections.abc import Mapping, Sequence

from quarry.collections.collection_handle import CollectionHandle
from quarry.errors import QuarryError
from quarry.ranking.fusion import ArmRun
from quarry.ranking.weighting import measure_traits
from quarry.types import Candidate, Docno
from quarry.v1 import search_service_pb2 as pb
from quarry_server.common.errors import make_ok_status, make_status


def retrieve_complete(
    collection: CollectionHandle, query_id: str, text: str, runs: Sequence[ArmRun]
) -> pb.RetrieveResult:
    """Retrieves all that merging rests on: what each arm proposes, what it makes of the others' proposals,
    its bounds.

    A document that an arm could not score has no candidate there. Blocks.
    """
    result = pb.RetrieveResult(query_id=query_id, traits=measure_traits(text, runs))
    ids = collection.log.read_ids({c.docno for run in runs for c in run.candidates})
    for run in runs:
        message = result.arms.add(arm=run.arm, status=make_ok_status(), low=run.low, high=run.high)
        _add_ranked(message, run.candidates, ids)
        for docno, score in run.others.items():
            if docno in ids:
                message.candidates.add(document_id=ids[docno][0], score=score)
    return result


def retrieve_own(
    collection: CollectionHandle, query_id: str, found: Mapping[str, list[Candidate] | QuarryError]
) -> pb.RetrieveResult:
    """Retrieves the candidates that each arm proposes, or why it proposes none. Blocks."""
    result = pb.RetrieveResult(query_id=query_id)
    docnos = {c.docno for arm in found.values() if not isinstance(arm, QuarryError) for c in arm}
    ids = collection.log.read_ids(docnos)
    for arm, candidates in found.items():
        message = result.arms.add(arm=arm)
        if isinstance(candidates, QuarryError):
            message.status.CopyFrom(make_status(candidates))
            continue
        message.status.CopyFrom(make_ok_status())
        _add_ranked(message, candidates, ids)
    return result


def _add_ranked(
    message: pb.ArmCandidates, candidates: Sequence[Candidate], ids: Mapping[Docno, tuple[str, int]]
) -> None:
    """Adds the candidates that still exist, best first, ties by id."""
    alive = sorted((c for c in candidates if c.docno in ids), key=lambda c: (-c.score, ids[c.docno][0]))
    for rank, c in enumerate(alive, start=1):
        message.candidates.add(document_id=ids[c.docno][0], rank=rank, score=c.score, passage=c.passage)
