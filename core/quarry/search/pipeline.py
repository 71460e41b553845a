"""From a query to a ranked list: retrieve, complete, fuse, resolve, re-rank."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, QuarryError
from quarry.filters import Filter
from quarry.ranking.fusion import (
    ArmRun,
)
from quarry.ranking.queries import MAX_RANKED, ArmPlan, Query, RerankPlan, Rrf, WeightedSum, plan_default_arms
from quarry.ranking.ranking import (
    Degradation,
    DegradationReason,
    FusedDocuments,
    RankedDocument,
    Ranking,
    Reach,
    ReachLimit,
    RestByWords,
    Total,
)
from quarry.ranking.relevance import FusedScale, keep_relevant, lacks_arm, with_unknown_named
from quarry.retrieval.base import FIRST_DOCNO, LexicalIndex
from quarry.retrieval.registry import find_browsing_arm
from quarry.retrieval.retriever import Retrieved, Retriever
from quarry.search.answer_schedule import Slot
from quarry.search.browsing import browse
from quarry.search.deepening import fuse_below, leave_rest, rank_below
from quarry.search.merging import compute_highest_score, fuse_runs, weigh_runs
from quarry.search.reach import count_word_matches, measure_reach, measure_relevant_reach
from quarry.search.resolving import Documents, resolve_documents
from quarry.search.shortfalls import ArmState, count_total, find_shortfall, refuse_incomplete, report_late
from quarry.types import Candidate, Docno

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
        retrievers: Iterable[Retriever],
        lexical: LexicalIndex,
        documents: Documents,
        reranking: Reranking,
        arm_state: Callable[[str], ArmState],
        threads: Executor,
        answering: Executor | None = None,
    ) -> None:
        """Takes what it searches.

        Args:
            lexical: of the arm that browses.
            answering: threads for what follows the last wait, so that it stands behind no new search.
        """
        self._answering = answering or threads
        self._browsing = find_browsing_arm().name
        self._generation = generation
        self._retrievers = {retriever.name: retriever for retriever in retrievers}
        self._lexical = lexical
        self._documents = documents
        self._reranking = reranking
        self._arm_state = arm_state
        self._threads = threads

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self._retrievers)

    def use(self, retriever: Retriever) -> None:
        """Puts ``retriever`` in the place of the one of its name."""
        self._retrievers[retriever.name] = retriever

    def find_degradations(self, arms: Sequence[ArmPlan]) -> list[Degradation]:
        """Tells why these arms do not hold all documents, of those that do not."""
        return [note for plan in arms for note in find_shortfall(plan.name, self._arm_state(plan.name))]

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
        timings: dict[str, float] = {}
        visible = min((self._arm_state(plan.name).visible for plan in query.arms), default=0)
        slot = slot or Slot.make_single(deadline)
        (found, degraded), counted = await asyncio.gather(
            self._retrieve(query, slot), self._count(query, slot.limit)
        )
        refuse_incomplete(query, degraded, nothing=not found)
        for name, retrieved in found.items():
            timings[name] = retrieved.search_s
            if retrieved.encode_s:
                timings["encode"] = retrieved.encode_s
        clock = time.perf_counter()
        runs, candidates, late = await self._complete_runs(query, found, slot.limit)
        degraded += late
        runs = weigh_runs(query, runs)

        def merge() -> FusedDocuments:
            fused = fuse_runs(query, runs)
            timings["fuse"] = time.perf_counter() - clock
            return resolve_documents(self._documents, fused, runs, candidates, query.filter, visible)

        with slot.measure_work():
            merged = await asyncio.get_running_loop().run_in_executor(self._answering, merge)
        ranked: Sequence[RankedDocument] = merged
        timings["hydrate"] = time.perf_counter() - clock - timings["fuse"]
        rerankers: tuple[str, ...] = ()
        if query.rerank is not None and (ranked or query.min_relevance is not None):
            clock = time.perf_counter()
            if loading is not None:
                await asyncio.wait([loading], timeout=slot.limit.timeout_s)
                if loading.done():
                    loading.result()
            limit = slot.limit.limit_to(query.rerank.budget_s)
            scale = FusedScale(
                compute_highest_score(query, runs), self._name_ranking(query), not lacks_arm(degraded)
            )
            ranked, late = await self._reranking.rerank(query.rerank, query.text, ranked, scale, limit)
            degraded += late
            timings["rerank"] = time.perf_counter() - clock
            rerankers = _list_readers(query.rerank, ranked)
        words = next((run for run in runs if run.arm == self._browsing), None)
        matching = candidates.get(self._browsing, {})
        rest: RestByWords | None = None
        counted = next((r.total for r in found.values() if r.total is not None), counted)
        if query.min_relevance is None:
            total = count_total(counted, degraded)
            refuse_incomplete(query, degraded, nothing=False)
            matches = count_word_matches([f.docno for f in merged.fused], words, matching, counted)
            deepens = query.deepens and words is not None
            reach = measure_reach(matches, len(merged), deepens)
            if deepens and matches.below and len(merged) < MAX_RANKED:
                rest = leave_rest(runs, merged.fused)
        else:
            ranked, total = keep_relevant(ranked, query.min_relevance)
            # An empty answer says that nothing is relevant: where work is left undone that is not known.
            refuse_incomplete(query, degraded, nothing=not ranked and any(d.incomplete for d in degraded))
            degraded = [with_unknown_named(note) for note in degraded]
            matches = count_word_matches([d.docno for d in ranked], words, matching, counted)
            reach = measure_relevant_reach(matches, total)
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
            {run.arm: run.weight for run in runs},
            compute_highest_score(query, runs),
            rest,
        )

    async def find_below(
        self, query: Query, listed: Sequence[RankedDocument], rest: RestByWords, limit: Deadline
    ) -> list[RankedDocument]:
        """Finds what BM25 ranks below its depth and what is not ``listed``, best first.

        Raises:
            TimeoutError: there was not time enough.
            QuarryError: BM25 does not answer.
        """
        name = self._browsing
        scale = next((plan.boost_scale for plan in query.arms if plan.name == name), 1.0)
        async with asyncio.timeout(limit.timeout_s):
            deep = await self._retrievers[name].retrieve(query.text, MAX_RANKED, query.filter, limit, scale)
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
        clock, state = time.perf_counter(), self._arm_state(self._browsing)
        async with asyncio.timeout(deadline.timeout_s):
            found = await self._run_in_thread(
                browse, self._lexical, self._documents, query.filter, first, size
            )
        degraded = find_shortfall(self._browsing, state)
        refuse_incomplete(query, degraded, nothing=False)
        return Ranking(
            found.documents,
            found.total,
            tuple(degraded),
            {self._browsing: time.perf_counter() - clock},
            self._generation,
            (),
            query.hash_configuration(),
            Reach(found.total, ReachLimit.NONE, Total(0, exact=True)),
            rest=found.rest,
        )

    async def retrieve(
        self, text: str, arms: Sequence[ArmPlan], filter: Filter | None
    ) -> dict[str, list[Candidate] | QuarryError]:
        """Retrieves each arm's own candidates, or why it has none; nothing is fused or dropped."""

        async def retrieve_one(plan: ArmPlan) -> list[Candidate] | QuarryError:
            try:
                arm = self._retrievers[plan.name]
                found = await arm.retrieve(text, plan.depth, filter, boost_scale=plan.boost_scale)
                return found.candidates
            except QuarryError as error:
                return error

        return dict(zip((p.name for p in arms), await asyncio.gather(*map(retrieve_one, arms)), strict=True))

    async def retrieve_runs(self, query: Query, deadline: Deadline) -> list[ArmRun]:
        """Retrieves what each arm gives, and its true scores of what the others propose, before anything is
        merged.

        Raises DeadlineExceeded or UnavailableError if an arm does not answer in full.
        """
        query = replace(query, require_complete=True)
        found, degraded = await self._retrieve(query, Slot.make_single(deadline))
        refuse_incomplete(query, degraded, nothing=not found)
        runs, _, late = await self._complete_runs(query, found, deadline)
        refuse_incomplete(query, late, nothing=False)
        return runs

    def _name_ranking(self, query: Query) -> str | None:
        """Names the ranking as ``FusedScale.ranking`` says; how deep an arm is asked changes no score."""
        if query.tuned:
            return query.tuned
        usual = plan_default_arms(self.arms, WeightedSum())
        same = {(plan.name, plan.weight) for plan in query.arms} == {(p.name, p.weight) for p in usual}
        return "" if same and isinstance(query.fusion, WeightedSum) else None

    async def _retrieve(self, query: Query, slot: Slot) -> tuple[dict[str, Retrieved], list[Degradation]]:
        """Retrieves what the arms give until the slot's limit, and if none has by then what the first one
        gives."""
        asked = {plan.name: asyncio.create_task(self._ask(plan, query, slot.limit)) for plan in query.arms}
        arms = asked.values()
        try:
            await asyncio.wait(arms, timeout=slot.limit.timeout_s)
            while slot.last.remaining_s and not any(task.done() and task.result()[0] for task in arms):
                waiting = [task for task in arms if not task.done()]
                if not waiting:
                    break
                await asyncio.wait(waiting, timeout=slot.last.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in arms:
                task.cancel()
            await asyncio.gather(*arms, return_exceptions=True)
        results = {
            name: report_late(name) if task.cancelled() else task.result() for name, task in asked.items()
        }
        found = {name: retrieved for name, (retrieved, _) in results.items() if retrieved is not None}
        return found, [note for _, notes in results.values() for note in notes]

    async def _ask(
        self, plan: ArmPlan, query: Query, limit: Deadline
    ) -> tuple[Retrieved | None, list[Degradation]]:
        arm = self._retrievers[plan.name]
        try:
            retrieved = await arm.retrieve(query.text, plan.depth, query.filter, limit, plan.boost_scale)
        except (TimeoutError, DeadlineExceeded):
            return report_late(plan.name)
        except QuarryError as error:
            return None, [Degradation(plan.name, DegradationReason.UNAVAILABLE, str(error))]
        notes = find_shortfall(plan.name, self._arm_state(plan.name))
        if retrieved.truncated:
            cut = "the encoder read the query's beginning"
            notes.append(Degradation(plan.name, DegradationReason.TRUNCATED_QUERY, cut))
        return retrieved, notes

    async def _count(self, query: Query, deadline: Deadline) -> int | None:
        """Counts the documents that match, unless an arm that is asked counts them; None if that fails."""
        if query.min_relevance is not None or any(plan.name == self._browsing for plan in query.arms):
            return None
        try:
            async with asyncio.timeout(deadline.timeout_s):
                return (await self._run_in_thread(self._lexical.search, query.text, 0, query.filter)).total
        except (TimeoutError, QuarryError):
            return None

    async def _complete_runs(
        self, query: Query, found: Mapping[str, Retrieved], deadline: Deadline
    ) -> tuple[list[ArmRun], dict[str, dict[Docno, Candidate]], list[Degradation]]:
        """Completes runs for fusion: in a weighted sum, each arm's true score for what the other arms
        proposed."""
        weights = {plan.name: plan.weight for plan in query.arms}
        known = {name: {c.docno: c for c in r.candidates} for name, r in found.items()}
        wanted = {docno for own in known.values() for docno in own}
        degraded: list[Degradation] = []

        async def complete_one(name: str, retrieved: Retrieved) -> ArmRun:
            missing = wanted - known[name].keys()
            others: dict[Docno, float] = {}
            if missing and not isinstance(query.fusion, Rrf):
                if retrieved.absent_is_low:
                    others = dict.fromkeys(missing, retrieved.low)
                try:
                    async with asyncio.timeout(deadline.timeout_s):
                        completed = await retrieved.complete(missing)
                    known[name].update(completed)
                    others.update((docno, candidate.score) for docno, candidate in completed.items())
                except (TimeoutError, QuarryError) as error:
                    late = isinstance(error, TimeoutError | DeadlineExceeded)
                    reason = DegradationReason.TIMEOUT if late else DegradationReason.UNAVAILABLE
                    degraded.append(Degradation(name, reason, f"the {name} arm scored only its own"))
                    others = {}
            return ArmRun(name, retrieved.candidates, weights[name], retrieved.low, retrieved.high, others)

        runs = await asyncio.gather(*(complete_one(name, retrieved) for name, retrieved in found.items()))
        return list(runs), known, degraded

    async def _run_in_thread(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call, *args)


def _list_readers(plan: RerankPlan, ranked: Sequence[RankedDocument]) -> tuple[str, ...]:
    """Lists the models of ``plan`` that have read anything."""
    read = {reading.model for document in ranked for reading in document.readings}
    return tuple(stage.model for stage in plan.stages if stage.model in read)
