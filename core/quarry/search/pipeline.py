"""From a query to a ranked list: retrieve, complete, fuse, resolve, re-rank."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, QuarryError
from quarry.filters import Filter, matches
from quarry.ranking.fusion import (
    ArmRun,
    Fused,
)
from quarry.ranking.queries import MAX_RANKED, ArmPlan, Query, RerankPlan, Rrf, WeightedSum, plan_default_arms
from quarry.ranking.ranking import (
    Degradation,
    DegradationReason,
    FusedDocuments,
    RankedDocument,
    Ranking,
    Total,
)
from quarry.ranking.relevance import FusedScale, keep_relevant, lacks_arm, with_unknown_named
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.registry import ARMS, find_browsing_arm
from quarry.retrieval.retriever import Retrieved, Retriever
from quarry.search.answer_schedule import Slot
from quarry.search.merging import compute_highest_score, fuse_runs, weigh_runs
from quarry.search.shortfalls import ArmState, count_total, find_shortfall, refuse_incomplete, report_late
from quarry.types import Candidate, Docno, Document

T = TypeVar("T")


class Documents(Protocol):
    """The log, as a search reads it; calls block."""

    def read_ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        """Reads id and version of those documents that exist."""
        ...

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]: ...


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
            async with asyncio.timeout(deadline.timeout_s):
                return await self._browse(query)
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

        def merge() -> Sequence[RankedDocument]:
            fused = fuse_runs(query, runs)
            timings["fuse"] = time.perf_counter() - clock
            return self._resolve(fused, runs, candidates, query.filter, visible)

        with slot.measure_work():
            ranked = await asyncio.get_running_loop().run_in_executor(self._answering, merge)
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
        if query.min_relevance is None:
            total = count_total(
                next((r.total for r in found.values() if r.total is not None), counted), degraded
            )
            refuse_incomplete(query, degraded, nothing=False)
        else:
            ranked, total = keep_relevant(ranked, query.min_relevance)
            # An empty answer says that nothing is relevant: where work is left undone that is not known.
            refuse_incomplete(query, degraded, nothing=not ranked and any(d.incomplete for d in degraded))
            degraded = [with_unknown_named(note) for note in degraded]
        return Ranking(
            ranked,
            total,
            tuple(degraded),
            timings,
            self._generation,
            rerankers,
            query.hash_configuration(),
            query.tuned,
            {run.arm: run.weight for run in runs},
            compute_highest_score(query, runs),
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

    async def _browse(self, query: Query) -> Ranking:
        clock = time.perf_counter()
        found = await self._run_in_thread(self._lexical.browse, MAX_RANKED, query.filter)
        timings = {self._browsing: time.perf_counter() - clock}
        fused = [Fused(candidate.docno, 0.0, {}) for candidate in found.candidates]
        state = self._arm_state(self._browsing)
        ranked = await self._run_in_thread(self._resolve, fused, [], {}, query.filter, state.visible)
        ranked = sorted(ranked, key=lambda document: document.docno)
        ranked = [replace(document, fused_rank=place) for place, document in enumerate(ranked, start=1)]
        degraded = find_shortfall(self._browsing, state)
        refuse_incomplete(query, degraded, nothing=False)
        total = Total(found.total, exact=True)
        return Ranking(
            tuple(ranked), total, tuple(degraded), timings, self._generation, (), query.hash_configuration()
        )

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

    def _resolve(
        self,
        fused: Sequence[Fused],
        runs: Sequence[ArmRun],
        known: Mapping[str, Mapping[Docno, Candidate]],
        filter: Filter | None,
        visible: int,
    ) -> Sequence[RankedDocument]:
        """Reads the fused documents that exist and pass the filter as they are now, ties by id."""
        ids = self._documents.read_ids([f.docno for f in fused])
        stale = [docno for docno, (_, version) in ids.items() if version > visible] if filter else []
        current = self._documents.read(stale) if stale else {}
        refused = {d.docno for d in current.values() if filter is not None and not matches(filter, d.fields)}
        ranks = {run.arm: {c.docno: n for n, c in enumerate(run.candidates, 1)} for run in runs}
        alive = [f for f in fused if f.docno in ids and f.docno not in refused]
        alive.sort(key=lambda f: (-f.score, ids[f.docno][0]))
        return FusedDocuments(alive[:MAX_RANKED], ids, ranks, known, _pick_compared(known))

    async def _run_in_thread(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call, *args)


def _pick_compared(known: Mapping[str, Mapping[Docno, Candidate]]) -> Mapping[Docno, Candidate]:
    """Picks the candidate of each document from the first arm that compares passages and has any."""
    arms = [own for arm, own in known.items() if ARMS[arm].compares_passages]
    if len(arms) == 1:
        return arms[0]
    return {docno: candidate for own in reversed(arms) for docno, candidate in own.items()}


def _list_readers(plan: RerankPlan, ranked: Sequence[RankedDocument]) -> tuple[str, ...]:
    """Lists the models of ``plan`` that have read anything."""
    read = {reading.model for document in ranked for reading in document.readings}
    return tuple(stage.model for stage in plan.stages if stage.model in read)
