"""From a query to a ranked list. ``Searcher.rank`` does one step after the other:

1. ``first_stage``: the arms give candidates, and score those of the others. What an arm is asked for, and
   what is counted over all that matches, belongs there.
2. ``merging``: one list of what all arms gave. What changes a fused score belongs there.
3. ``resolving``: what exists and passes the filter as it is now. What drops or joins documents belongs there.
4. ``reranking``: models read the best of the list. What changes the order after them is a step of its own,
   behind this one.
5. ``reach``: what the answer says of its list.

What a page shows of a hit is no matter of the ranking: the request's ``render`` says it, and ``result_pages``
calls that. A new option is a function in a module of its own, which ``rank`` calls if the query has it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from copy import copy
from functools import partial
from typing import Any, Protocol, TypeVar

from quarry.deadline import Deadline
from quarry.ranking.queries import MAX_RANKED, Query, RerankPlan, WeightedSum, plan_default_arms
from quarry.ranking.ranking import (
    Degradation,
    FusedDocuments,
    RankedDocument,
    Ranking,
    Reach,
    ReachLimit,
    RestByWords,
    Total,
)
from quarry.ranking.relevance import FusedScale, keep_relevant, lacks_arm, with_unknown_named
from quarry.retrieval.base import FIRST_DOCNO
from quarry.search.answer_schedule import Slot
from quarry.search.browsing import browse
from quarry.search.deepening import fuse_below, leave_rest, rank_below
from quarry.search.first_stage import FirstStage, Found
from quarry.search.merging import Merged, merge
from quarry.search.reach import count_word_matches, measure_reach, measure_relevant_reach
from quarry.search.resolving import Documents, resolve_documents
from quarry.search.results.ordered import order_matching
from quarry.search.shortfalls import count_total, refuse_incomplete
from quarry.types import Docno

T = TypeVar("T")


class Reranking(Protocol):
    """Second stage of a search."""

    async def rerank(
        self,
        plan: RerankPlan,
        text: str,
        ranked: Sequence[RankedDocument],
        fused: FusedScale,
        deadline: Deadline,
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        """Re-ranks ``ranked`` and returns its new order; on a failure the order that there is by then, and
        why.

        Raises NotCalibratedError if the plan has a bound of relevance, and nothing tells relevance.
        """
        ...


class Searcher:
    """Ranks the documents of one generation. Holds no state of a request."""

    def __init__(
        self,
        generation: str,
        first_stage: FirstStage,
        documents: Documents,
        reranking: Reranking,
        threads: Executor,
        answering: Executor | None = None,
    ) -> None:
        """Takes what it searches.

        Args:
            answering: threads for what follows the last wait, so that it stands behind no new search.
        """
        self.first_stage = first_stage
        self._generation = generation
        self._documents = documents
        self._reranking = reranking
        self._threads = threads
        self._answering = answering or threads

    def read_from(self, documents: Documents, first_stage: FirstStage) -> "Searcher":
        """Makes a searcher of the same generation that knows ``documents`` and asks ``first_stage``."""
        changed = copy(self)
        changed._documents, changed.first_stage = documents, first_stage
        return changed

    async def rank(
        self,
        query: Query,
        deadline: Deadline,
        slot: Slot | None = None,
        loading: "asyncio.Future[None] | None" = None,
    ) -> Ranking:
        """Ranks the documents for ``query``.

        Args:
            slot: until when it may wait for what; of its own if it is the only search.
            loading: done when the re-rankers are loaded, or failed; None if they are. If it takes longer
                than the slot's limit, re-ranking finds that they are not.

        Raises:
            DeadlineExceeded: no arm answered in time, or ``require_complete`` and a stage was late.
            UnavailableError: no arm could answer, or ``require_complete`` and a stage failed.
            QuarryError: ``loading`` has failed, and there is something to re-rank.
            NotCalibratedError: the query has a bound of relevance, and nothing tells relevance.
        """
        if not query.text:
            return await self.browse(query, deadline)
        slot = slot or Slot.make_single(deadline)
        found = await self.first_stage.gather(query, slot)
        timings, degraded = dict(found.timings_s), list(found.degraded)
        with slot.measure_work():
            merge_found = partial(self._merge, query, found, timings)
            merged, listed = await asyncio.get_running_loop().run_in_executor(self._answering, merge_found)
        ranked: Sequence[RankedDocument] = listed
        rerankers: tuple[str, ...] = ()
        if query.rerank is not None and (listed or query.min_relevance is not None):
            clock = time.perf_counter()
            scale = FusedScale(merged.highest, self._name_ranking(query), not lacks_arm(degraded))
            ranked, late = await self._rerank(query, query.rerank, listed, scale, slot, loading)
            degraded += late
            timings["rerank"] = time.perf_counter() - clock
            rerankers = _list_readers(query.rerank, ranked)
        if query.min_relevance is None:
            total = count_total(found.counted, degraded, found.why_uncounted)
            refuse_incomplete(query, degraded, nothing=False)
        else:
            ranked, total = keep_relevant(ranked, query.min_relevance)
            # An empty answer says that nothing is relevant: where work is left undone that is not known.
            refuse_incomplete(query, degraded, nothing=not ranked and any(d.incomplete for d in degraded))
            degraded = [with_unknown_named(note) for note in degraded]
        reach, rest = self._measure_reach(query, found, merged, listed, ranked, total)
        return Ranking(
            ranked,
            total,
            tuple(degraded),
            timings,
            self._generation,
            rerankers,
            query.hash_configuration(),
            reach,
            query.tuned,
            {run.arm: run.weight for run in merged.runs},
            merged.highest,
            rest,
        )

    def _merge(self, query: Query, found: Found, timings: dict[str, float]) -> tuple[Merged, FusedDocuments]:
        """Merges what was found, and resolves it in the log. Blocks."""
        merged, fused_s = merge(query, found.runs), time.perf_counter()
        timings["fuse"] = fused_s - found.answered_s
        listed = resolve_documents(
            self._documents, merged.fused, merged.runs, found.known, query.filter, found.visible
        )
        timings["hydrate"] = time.perf_counter() - fused_s
        return merged, listed

    async def _rerank(
        self,
        query: Query,
        plan: RerankPlan,
        listed: Sequence[RankedDocument],
        scale: FusedScale,
        slot: Slot,
        loading: "asyncio.Future[None] | None",
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        """Re-ranks the list once the models are loaded, and names what was not read."""
        if loading is not None:
            await asyncio.wait([loading], timeout=slot.limit.timeout_s)
            if loading.done():
                loading.result()
        limit = slot.limit.limit_to(plan.budget_s)
        return await self._reranking.rerank(plan, query.text, listed, scale, limit)

    def _measure_reach(
        self,
        query: Query,
        found: Found,
        merged: Merged,
        listed: FusedDocuments,
        ranked: Sequence[RankedDocument],
        total: Total,
    ) -> tuple[Reach, RestByWords | None]:
        """Measures how far paging comes, and keeps what ranking the documents below the list needs.

        Args:
            listed: what is merged and resolved; of it ``ranked`` is what is given out.
        """
        browsing, counted = self.first_stage.browsing, found.counted
        words = next((run for run in found.runs if run.arm == browsing), None)
        matching = found.known.get(browsing, {})
        if query.min_relevance is not None:
            matches = count_word_matches([d.docno for d in ranked], words, matching, counted)
            return measure_relevant_reach(matches, total), None
        matches = count_word_matches([f.docno for f in listed.fused], words, matching, counted)
        deepens = query.deepens and words is not None
        more_below = deepens and matches.below and len(listed) < MAX_RANKED
        rest = leave_rest(merged.runs, listed.fused) if more_below else None
        return measure_reach(matches, len(listed), deepens), rest

    async def find_below(
        self, query: Query, listed: Sequence[RankedDocument], rest: RestByWords, limit: Deadline
    ) -> list[RankedDocument]:
        """Finds what BM25 ranks below its depth and what is not ``listed``, best first.

        Raises:
            TimeoutError: there was not time enough.
            QuarryError: BM25 does not answer.
        """
        name = self.first_stage.browsing
        async with asyncio.timeout(limit.timeout_s):
            deep = await self.first_stage.retrieve_by_words(query, limit)
            below = fuse_below(query, rest, name, deep, listed)
            ids = await self._run_in_thread(self._documents.read_ids, [fused.docno for fused in below])
        return rank_below(below, ids, name, deep.candidates, rest.highest, len(listed) + 1)

    async def browse(
        self, query: Query, deadline: Deadline, first: Docno = FIRST_DOCNO, size: int = MAX_RANKED
    ) -> Ranking:
        """Lists at most ``size`` documents that pass the filter, from ``first`` on, oldest first.

        Raises:
            TimeoutError: there was not time enough.
            UnavailableError: ``require_complete``, and the index does not hold all documents.
        """
        clock, stage = time.perf_counter(), self.first_stage
        degraded = stage.find_shortfalls([stage.browsing])
        async with asyncio.timeout(deadline.timeout_s):
            found = await self._run_in_thread(
                browse, stage.lexical, self._documents, query.filter, first, size
            )
        refuse_incomplete(query, degraded, nothing=False)
        return Ranking(
            found.documents,
            found.total,
            tuple(degraded),
            {stage.browsing: time.perf_counter() - clock},
            self._generation,
            (),
            query.hash_configuration(),
            Reach(found.total, ReachLimit.NONE, Total(0, exact=True)),
            rest=found.rest,
        )

    async def order(
        self, query: Query, deadline: Deadline, depth: int, hidden: frozenset[Docno] = frozenset()
    ) -> Ranking:
        """Lists what matches by words, passes the filter and is not ``hidden`` in the order of fields,
        ``depth`` documents at least if there are as many.

        Raises as ``browse``.
        """
        clock, stage = time.perf_counter(), self.first_stage
        degraded = stage.find_shortfalls([stage.browsing])
        async with asyncio.timeout(deadline.timeout_s):
            found = await self._run_in_thread(
                order_matching, stage.lexical, self._documents, query, depth, hidden
            )
        refuse_incomplete(query, degraded, nothing=False)
        return Ranking(
            found.documents,
            found.total,
            tuple(degraded),
            {stage.browsing: time.perf_counter() - clock},
            self._generation,
            (),
            query.hash_configuration(),
            found.measure_reach(),
            rest=found.rest,
            hidden=hidden,
        )

    def _name_ranking(self, query: Query) -> str | None:
        """Names the ranking as ``FusedScale.ranking`` says; how deep an arm is asked changes no score."""
        if query.tuned:
            return query.tuned
        usual = plan_default_arms(self.first_stage.arms, WeightedSum())
        same = {(plan.name, plan.weight) for plan in query.arms} == {(p.name, p.weight) for p in usual}
        return "" if same and isinstance(query.fusion, WeightedSum) else None

    async def _run_in_thread(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call, *args)


def _list_readers(plan: RerankPlan, ranked: Sequence[RankedDocument]) -> tuple[str, ...]:
    """Lists the models of ``plan`` that have read anything."""
    read = {reading.model for document in ranked for reading in document.readings}
    return tuple(stage.model for stage in plan.stages if stage.model in read)
