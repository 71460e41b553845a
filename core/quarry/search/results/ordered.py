"""A list of all documents that match a word and pass a filter, in the order of their fields."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from quarry.ranking.queries import Query
from quarry.ranking.ranking import BareDocuments, RankedDocument, Reach, ReachLimit, RestByOrder, Total
from quarry.ranking.score_scale import ScoreBasis
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.ordering import MAX_ORDERED
from quarry.search.resolving import Documents
from quarry.types import Docno

ORDERED_AT_FIRST = 100
"""Documents that are ordered for the first page, at least."""
GROWTH = 10
"""A later page that needs more orders so many times as many."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """The beginning of the list.

    Attributes:
        documents: in order, ties by id. Their scores are 0: those of the hits on a page are read for it.
        total: documents that match in all.
        rest: where the list goes on; None at its end.
    """

    documents: BareDocuments
    total: Total
    rest: RestByOrder | None

    def measure_reach(self) -> Reach:
        """Measures how far paging comes."""
        limit = ReachLimit.NONE if self.total.count <= MAX_ORDERED else ReachLimit.LIST_SIZE
        hits = Total(min(self.total.count, MAX_ORDERED), exact=True)
        return Reach(hits, limit, Total(0, exact=True))


def order_matching(
    lexical: LexicalIndex,
    documents: Documents,
    query: Query,
    depth: int,
    hidden: Collection[Docno] = (),
) -> Ordered:
    """Orders what matches ``query`` and is not ``hidden``, and lists at least ``depth`` documents if there
    are as many. Blocks.

    Whether each still passes the filter is for the page to see.
    """
    depth = min(depth, MAX_ORDERED)
    found = lexical.order(query.search_text, depth, query.filter, query.order_by, hidden)
    ids = documents.read_ids([docno for tie in found.ties for docno in tie])
    listed = [
        docno
        for tie in found.ties
        for docno in sorted((docno for docno in tie if docno in ids), key=lambda docno: ids[docno][0])
    ]
    ended = sum(map(len, found.ties)) >= min(found.total, MAX_ORDERED)
    rest = None if ended else RestByOrder(depth * GROWTH)
    return Ordered(list_ordered(listed[:MAX_ORDERED]), Total(found.total, exact=True), rest)


def list_ordered(docnos: Sequence[Docno]) -> BareDocuments:
    """Makes a ranked list of documents that are in order."""
    return BareDocuments(docnos, [0.0] * len(docnos), [ScoreBasis.ORDERED] * len(docnos))


def join_below(listed: Sequence[RankedDocument], found: Sequence[RankedDocument]) -> BareDocuments:
    """Puts what was found and is not ``listed`` below the list, which stays as it was given out."""
    docnos = dict.fromkeys(document.docno for part in (listed, found) for document in part)
    return list_ordered(list(docnos)[:MAX_ORDERED])
