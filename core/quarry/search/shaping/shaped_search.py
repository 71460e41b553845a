"""A search whose list is shaped: what is on it, in which order, and how many documents there are."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from quarry.errors import QuarryError
from quarry.ranking.queries import MAX_RANKED, Query
from quarry.ranking.ranges import ARM_DEPTH
from quarry.ranking.ranking import (
    RankedDocument,
    Ranking,
    Reach,
    ReachLimit,
    RestByWords,
    Total,
)
from quarry.ranking.score_scale import ScoreBasis
from quarry.ranking.shaping import Diversity, Shaping
from quarry.retrieval.base import FIRST_DOCNO
from quarry.search.answer_schedule import Slot
from quarry.search.pipeline import Searcher
from quarry.search.resolving import Documents, read_in_parts
from quarry.search.shaping.boosting import Strengths, apply_boosts, measure_strengths
from quarry.search.shaping.collapsing import collapse_groups, read_group
from quarry.search.shaping.diversifying import list_first_hits, order_by_novelty
from quarry.search.shaping.pinning import HidingDocuments, NamedDocuments, pin_documents, read_named_documents
from quarry.search.shaping.similar import find_like_query
from quarry.search.shortfalls import refuse_incomplete, report_failure
from quarry.types import Docno, FieldScalar


@dataclass(slots=True)
class _Traits:
    """The strengths and groups of the documents of a list, as the log has them."""

    strengths: dict[Docno, Strengths] = field(default_factory=dict)
    groups: dict[Docno, FieldScalar | None] = field(default_factory=dict)


def hide_documents(searcher: Searcher, documents: Documents, hidden: frozenset[Docno]) -> Searcher:
    """Makes a searcher that does not see ``hidden`` documents."""
    return (
        searcher.read_from(HidingDocuments(documents, hidden), searcher.first_stage) if hidden else searcher
    )


async def rank_shaped(
    searcher: Searcher,
    documents: Documents,
    query: Query,
    shaping: Shaping,
    slot: Slot,
    loading: "asyncio.Future[None] | None" = None,
) -> tuple[Query, Ranking]:
    """Ranks the documents as ``Searcher.rank`` does, and shapes the list.

    If its order changes, it is ranked as a whole: no later page may bring a better hit.

    Returns:
        The query as it was asked, which is another one for what is like a document; and its ranking.

    Raises:
        QuarryError: as ``Searcher.rank``.
        DocumentNotFoundError: what it is to be like does not exist.
        WrongTypeError: a document has several values where it is to have the one of its group.
    """
    named = await asyncio.to_thread(read_named_documents, documents, shaping, query.filter)
    stage = searcher.first_stage
    if shaping.like:
        query, stage = await find_like_query(stage, documents, query, shaping.like, slot.limit)
    searcher = searcher.read_from(HidingDocuments(documents, named.hidden), stage)
    ranking = await searcher.rank(_ask_deeper(query, len(named.hidden)), slot.deadline, slot, loading)
    if shaping.reorders:
        ranking = await _list_below(searcher, query, ranking, slot)
    listed = {document.docno for document in ranking.documents}
    ordered = await asyncio.to_thread(_order_by_fields, documents, ranking, shaping, named.pinned)
    ranking = replace(ranking, documents=ordered)
    if shaping.diversity is not None:
        ranking = await _order_by_new(searcher, ranking, shaping.diversity, len(named.pinned), slot)
    refuse_incomplete(query, ranking.degraded, nothing=False)
    ranking = replace(
        ranking,
        configuration=query.hash_configuration(),
        shaped=True,
        pinned=len(named.pinned),
        not_pinned=named.not_pinned,
        hidden=named.hidden,
    )
    listed.update(document.docno for document in named.pinned)
    return query, await _count_again(searcher, query, ranking, named, listed, slot)


async def browse_shaped(
    searcher: Searcher,
    documents: Documents,
    query: Query,
    shaping: Shaping,
    slot: Slot,
    first: Docno,
    size: int,
) -> Ranking:
    """Lists documents as ``Searcher.browse`` does, with those on top of the first page that are pinned."""
    named = await asyncio.to_thread(read_named_documents, documents, shaping, query.filter)
    pinned = {document.docno for document in named.pinned}
    known = HidingDocuments(documents, named.hidden | pinned)
    ranking = await searcher.read_from(known, searcher.first_stage).browse(query, slot.deadline, first, size)
    top = named.pinned if first == FIRST_DOCNO else ()
    total = replace(ranking.total, count=max(0, ranking.total.count - len(named.passing)))
    return replace(
        ranking,
        documents=pin_documents(ranking.documents, top),
        total=total,
        reach=replace(ranking.reach, hits=total),
        shaped=True,
        pinned=len(top),
        not_pinned=named.not_pinned,
        hidden=named.hidden,
    )


def _ask_deeper(query: Query, more: int) -> Query:
    """Asks each arm for as many candidates more as are hidden."""
    most = int(ARM_DEPTH.most)
    arms = tuple(replace(plan, depth=min(most, plan.depth + more)) for plan in query.arms) if more else None
    return query if arms is None else replace(query, arms=arms)


async def _list_below(searcher: Searcher, query: Query, ranking: Ranking, slot: Slot) -> Ranking:
    """Adds what BM25 finds beyond its depth, so that the list is a whole."""
    if not isinstance(ranking.rest, RestByWords):
        return ranking
    try:
        below = await searcher.find_below(query, ranking.documents, ranking.rest, slot.limit)
    except (TimeoutError, QuarryError) as error:
        name = searcher.first_stage.browsing
        note = report_failure(name, error, f"what {name} finds beyond its depth is missing")
        reach = replace(ranking.reach, limit=ReachLimit.DEGRADED)
        return replace(ranking, degraded=(*ranking.degraded, note), reach=reach, rest=None)
    return replace(ranking, documents=[*ranking.documents, *below], rest=None)


def _order_by_fields(
    documents: Documents, ranking: Ranking, shaping: Shaping, pinned: Sequence[RankedDocument]
) -> Sequence[RankedDocument]:
    """Gives the list the order and groups that the documents' fields make, with ``pinned`` on top. Blocks.

    Documents are pinned with the scores that boosts gave them, and before the list is collapsed: so a pinned
    document stands for its group, and is shown once.
    """
    traits = _Traits()
    if shaping.boosts or shaping.collapse:
        asked = {document.docno for document in ranking.documents} | {document.docno for document in pinned}
        traits = _read_traits(documents, list(asked), shaping)
    ordered = ranking.documents
    if shaping.boosts:
        ordered = apply_boosts(ordered, shaping.boosts, traits.strengths, ranking.scale)
    ordered = pin_documents(ordered, pinned) if pinned else ordered
    if shaping.collapse:
        ordered = collapse_groups(ordered, traits.groups, shaping.collapse.members)
    return ordered


def _read_traits(documents: Documents, docnos: Sequence[Docno], shaping: Shaping) -> _Traits:
    """Reads what boosts and groups need."""
    traits, now_us = _Traits(), time.time_ns() // 1_000
    for document in read_in_parts(documents, docnos):
        if shaping.boosts:
            traits.strengths[document.docno] = measure_strengths(shaping.boosts, document.fields, now_us)
        if shaping.collapse:
            traits.groups[document.docno] = read_group(shaping.collapse, document)
    return traits


async def _order_by_new(
    searcher: Searcher, ranking: Ranking, diversity: Diversity, pinned: int, slot: Slot
) -> Ranking:
    """Puts hits further down that repeat others; if the vectors cannot be had, the order stays.

    The ``pinned`` documents on top take no part.
    """
    top, rest = ranking.documents[:pinned], ranking.documents[pinned:]
    first = list_first_hits(rest, diversity.depth)
    try:
        vectors = await searcher.first_stage.read_vectors([d.docno for d in first], slot.limit)
    except (TimeoutError, QuarryError) as error:
        name = searcher.first_stage.comparing
        note = report_failure(name, error, f"the vectors of {name}, which tell repeated hits, are missing")
        return replace(ranking, degraded=(*ranking.degraded, note))
    ordered = await asyncio.to_thread(order_by_novelty, rest, vectors, diversity, ranking.scale)
    return replace(ranking, documents=[*top, *ordered])


async def _count_again(
    searcher: Searcher,
    query: Query,
    ranking: Ranking,
    named: NamedDocuments,
    listed: Collection[Docno],
    slot: Slot,
) -> Ranking:
    """Counts what matches, what paging reaches, and what of it matches no word, as the list is now.

    Args:
        listed: documents on the list, those included that another one of their group stands for.
    """
    hits = Total(len(ranking.documents), exact=True)
    try:
        asked = {*listed, *named.passing}
        matching = await searcher.first_stage.find_matching(query, asked, slot.limit)
    except (TimeoutError, QuarryError):
        reach = Reach(hits, ReachLimit.DEGRADED, Total(0, exact=False))
        return replace(ranking, reach=reach, total=replace(ranking.total, exact=False))
    hidden = len(matching & named.passing)
    total, limit = ranking.total, ranking.reach.limit
    if query.min_relevance is None:
        total = replace(total, count=max(0, total.count - hidden))
        if limit is not ReachLimit.DEGRADED:
            whole = len(matching.intersection(listed)) >= total.count
            limit = ReachLimit.NONE if whole else ReachLimit.LIST_SIZE if limit is ReachLimit.NONE else limit
    if ranking.rest is not None:
        below = total.count - len(matching.intersection(listed))
        limit = ReachLimit.NONE if hits.count + below <= MAX_RANKED else ReachLimit.LIST_SIZE
        hits = _reach_below(below, hits.count, hidden)
    by_meaning = sum(
        document.scored_by is not ScoreBasis.PINNED and document.docno not in matching
        for document in ranking.documents
    )
    reach = Reach(hits, limit, Total(by_meaning, exact=True))
    return replace(ranking, total=total, reach=reach)


def _reach_below(below: int, listed: int, hidden: int) -> Total:
    """Counts the hits of a list that goes on with ``below`` documents that match.

    BM25 gives so many at most as a list may have, and the ``hidden`` ones may be among them.
    """
    if listed + below <= MAX_RANKED or not hidden:
        return Total(max(listed, min(MAX_RANKED, listed + below)), exact=True)
    return Total(max(listed, MAX_RANKED - hidden), exact=False)
