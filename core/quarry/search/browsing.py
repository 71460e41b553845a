"""A list of all documents that pass a filter, oldest first, which is read piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass

from quarry.filters import Filter
from quarry.ranking.ranking import RankedDocument, RestByDocno, Total
from quarry.ranking.score_scale import ScoreBasis
from quarry.retrieval.base import LexicalIndex
from quarry.search.resolving import Documents
from quarry.types import Docno


@dataclass(frozen=True, slots=True)
class Browsed:
    """A piece of the list.

    Attributes:
        documents: by docno, which is the order in which they were first written.
        total: documents that pass the filter in all.
        rest: where the list goes on; None at its end.
    """

    documents: Sequence[RankedDocument]
    total: Total
    rest: RestByDocno | None


def browse(
    lexical: LexicalIndex, documents: Documents, filter: Filter | None, first: Docno, size: int
) -> Browsed:
    """Lists at most ``size`` documents that the index has and the log too, from ``first`` on. Blocks.

    It lists one at least if there is one. Whether each still passes the filter is for the page to see.
    """
    while True:
        found = lexical.browse(size + 1, filter, first)
        listed, more = found.candidates[:size], found.candidates[size:]
        ids = documents.read_ids([candidate.docno for candidate in listed])
        alive = [candidate.docno for candidate in listed if candidate.docno in ids]
        if alive or not more:
            break
        first = more[0].docno  # what the index had was deleted meanwhile
    ranked = [
        RankedDocument(docno, *ids[docno], 0.0, fused_rank=place, scored_by=ScoreBasis.BROWSED)
        for place, docno in enumerate(alive, start=1)
    ]
    rest = RestByDocno(more[0].docno) if more else None
    return Browsed(ranked, Total(found.total, exact=True), rest)
