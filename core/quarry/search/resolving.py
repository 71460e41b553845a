"""A merged list after a look into the log: what exists, under its id, and passes the filter as it is now."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from quarry.filters import Filter, matches
from quarry.ranking.fusion import ArmRun, Fused
from quarry.ranking.queries import MAX_RANKED
from quarry.ranking.ranking import FusedDocuments
from quarry.retrieval.registry import ARMS
from quarry.types import Candidate, Docno, Document

READ_AT_ONCE = 100
"""Documents that are in memory together at most where a search reads many for a little of each."""


class Documents(Protocol):
    """The log, as a search reads it; calls block."""

    def read_ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        """Reads id and version of those documents that exist."""
        ...

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]: ...

    def find_docnos(self, ids: Collection[str]) -> Mapping[str, tuple[Docno, int]]:
        """Finds docno and version of those documents that exist, by id."""
        ...


def read_in_parts(documents: Documents, docnos: Sequence[Docno]) -> Iterator[Document]:
    """Reads those documents that exist, some at a time: each may have 4 MiB. Blocks."""
    for start in range(0, len(docnos), READ_AT_ONCE):
        yield from documents.read(docnos[start : start + READ_AT_ONCE]).values()


def resolve_documents(
    documents: Documents,
    fused: Sequence[Fused],
    runs: Sequence[ArmRun],
    known: Mapping[str, Mapping[Docno, Candidate]],
    filter: Filter | None,
    visible: int,
) -> FusedDocuments:
    """Reads the fused documents that exist and pass the filter as they are now, ties by id. Blocks."""
    ids = documents.read_ids([f.docno for f in fused])
    stale = [docno for docno, (_, version) in ids.items() if version > visible] if filter else []
    current = documents.read(stale) if stale else {}
    refused = {d.docno for d in current.values() if filter is not None and not matches(filter, d.fields)}
    ranks = {run.arm: {c.docno: n for n, c in enumerate(run.candidates, 1)} for run in runs}
    alive = [f for f in fused if f.docno in ids and f.docno not in refused]
    alive.sort(key=lambda f: (-f.score, ids[f.docno][0]))
    return FusedDocuments(alive[:MAX_RANKED], ids, ranks, known, _pick_compared(known))


def _pick_compared(known: Mapping[str, Mapping[Docno, Candidate]]) -> Mapping[Docno, Candidate]:
    """Picks the candidate of each document from the first arm that compares passages and has any."""
    arms = [own for arm, own in known.items() if ARMS[arm].compares_passages]
    if len(arms) == 1:
        return arms[0]
    return {docno: candidate for own in reversed(arms) for docno, candidate in own.items()}
