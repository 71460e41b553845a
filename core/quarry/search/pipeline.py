"""From a query to a ranked list: retrieve, complete, fuse, resolve, re-rank."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, QuarryError, UnavailableError
from quarry.filters import Filter, matches
from quarry.ranking.fusion import ArmRun, Fused, highest_reciprocal_rank, reciprocal_rank_fusion, weighted_sum
from quarry.ranking.queries import MAX_RANKED, ArmPlan, Query, RerankPlan, Rrf, WeightedSum, default_arms
from quarry.ranking.ranking import Degradation, FusedDocuments, RankedDocument, Ranking, Reason, Stage, Total
from quarry.ranking.relevance import FusedScale, lacks_arm, relevant_only, with_unknown_named
from quarry.ranking.weighting import traits_of, weighted_by_query
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.registry import ARMS, browsing_arm
from quarry.retrieval.retriever import Retrieved, Retriever
from quarry.search.answer_schedule import Slot
from quarry.types import Candidate, Docno, Document

T = TypeVar("T")


class Documents(Protocol):
    """The log, as a search reads it; calls block."""

    def ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        """Id and version of those that exist."""
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
        """``ranked`` in its new order; on a failure the order that there is by then, and why.

        Raises NotCalibratedError if the plan has a bound of relevance, and nothing tells relevance.
        """
        ...


@dataclass(frozen=True, slots=True)
class ArmState:
    """How far an arm has followed the log.

    Attributes:
        visible: sequence number up to which it answers with current versions.
        lacking: why it does not hold all documents; None if it does.
        behind: why its answers lack what was written long ago; None if they do not.
    """

    visible: int
    lacking: str | None
    behind: str | None = None


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
        self._browsing = browsing_arm().name
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

    def degradations(self, arms: Sequence[ArmPlan]) -> list[Degradation]:
        """Why these arms do not hold all documents, of those that do not."""
        return [note for plan in arms for note in _shortfall(plan.name, self._arm_state(plan.name))]

    async def rank(
        self,
        query: Query,
        deadline: Deadline,
        slot: Slot | None = None,
        loading: "asyncio.Future[None] | None" = None,
    ) -> Ranking:
        """The ranked list for ``query``.

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
        slot = slot or Slot.of(deadline)
        (found, degraded), counted = await asyncio.gather(
            self._retrieve(query, slot), self._count(query, slot.limit)
        )
        _refuse_incomplete(query, degraded, nothing=not found)
        for name, retrieved in found.items():
            timings[name] = retrieved.search_s
            if retrieved.encode_s:
                timings["encode"] = retrieved.encode_s
        clock = time.perf_counter()
        runs, candidates, late = await self._complete(query, found, slot.limit)
        degraded += late
        runs = _weighted(query, runs)

        def merge() -> Sequence[RankedDocument]:
            fused = _fused(query, runs)
            timings["fuse"] = time.perf_counter() - clock
            return self._resolve(fused, runs, candidates, query.filter, visible)

        with slot.work():
            ranked = await asyncio.get_running_loop().run_in_executor(self._answering, merge)
        timings["hydrate"] = time.perf_counter() - clock - timings["fuse"]
        rerankers: tuple[str, ...] = ()
        if query.rerank is not None and (ranked or query.min_relevance is not None):
            clock = time.perf_counter()
            if loading is not None:
                await asyncio.wait([loading], timeout=slot.limit.timeout_s)
                if loading.done():
                    loading.result()
            limit = slot.limit.at_most(query.rerank.budget_s)
            scale = FusedScale(_highest(query, runs), self._ranking(query), not lacks_arm(degraded))
            ranked, late = await self._reranking.rerank(query.rerank, query.text, ranked, scale, limit)
            degraded += late
            timings["rerank"] = time.perf_counter() - clock
            rerankers = _read_by(query.rerank, ranked)
        if query.min_relevance is None:
            total = _total(next((r.total for r in found.values() if r.total is not None), counted), degraded)
            _refuse_incomplete(query, degraded, nothing=False)
        else:
            ranked, total = relevant_only(ranked, query.min_relevance)
            # An empty answer says that nothing is relevant: where work is left undone that is not known.
            _refuse_incomplete(query, degraded, nothing=not ranked and any(d.incomplete for d in degraded))
            degraded = [with_unknown_named(note) for note in degraded]
        return Ranking(
            ranked,
            total,
            tuple(degraded),
            timings,
            self._generation,
            rerankers,
            query.configuration(),
            query.tuned,
            {run.arm: run.weight for run in runs},
            _highest(query, runs),
        )

    async def retrieve(
        self, text: str, arms: Sequence[ArmPlan], filter: Filter | None
    ) -> dict[str, list[Candidate] | QuarryError]:
        """Each arm's own candidates, or why it has none; nothing is fused or dropped."""

        async def one(plan: ArmPlan) -> list[Candidate] | QuarryError:
            try:
                arm = self._retrievers[plan.name]
                found = await arm.retrieve(text, plan.depth, filter, boost_scale=plan.boost_scale)
                return found.candidates
            except QuarryError as error:
                return error

        return dict(zip((p.name for p in arms), await asyncio.gather(*map(one, arms)), strict=True))

    async def runs(self, query: Query, deadline: Deadline) -> list[ArmRun]:
        """What each arm gives, and its true scores of what the others propose, before anything is merged.

        Raises DeadlineExceeded or UnavailableError if an arm does not answer in full.
        """
        query = replace(query, require_complete=True)
        found, degraded = await self._retrieve(query, Slot.of(deadline))
        _refuse_incomplete(query, degraded, nothing=not found)
        runs, _, late = await self._complete(query, found, deadline)
        _refuse_incomplete(query, late, nothing=False)
        return runs

    async def _browse(self, query: Query) -> Ranking:
        clock = time.perf_counter()
        found = await self._in_thread(self._lexical.browse, MAX_RANKED, query.filter)
        timings = {self._browsing: time.perf_counter() - clock}
        fused = [Fused(candidate.docno, 0.0, {}) for candidate in found.candidates]
        state = self._arm_state(self._browsing)
        ranked = await self._in_thread(self._resolve, fused, [], {}, query.filter, state.visible)
        ranked = sorted(ranked, key=lambda document: document.docno)
        ranked = [replace(document, fused_rank=place) for place, document in enumerate(ranked, start=1)]
        degraded = _shortfall(self._browsing, state)
        _refuse_incomplete(query, degraded, nothing=False)
        total = Total(found.total, exact=True)
        return Ranking(
            tuple(ranked), total, tuple(degraded), timings, self._generation, (), query.configuration()
        )

    def _ranking(self, query: Query) -> str | None:
        """As ``FusedScale.ranking``; how deep an arm is asked changes no score."""
        if query.tuned:
            return query.tuned
        usual = default_arms(self.arms, WeightedSum())
        same = {(plan.name, plan.weight) for plan in query.arms} == {(p.name, p.weight) for p in usual}
        return "" if same and isinstance(query.fusion, WeightedSum) else None

    async def _retrieve(self, query: Query, slot: Slot) -> tuple[dict[str, Retrieved], list[Degradation]]:
        """What the arms give until the slot's limit, and if none has by then what the first one gives."""
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
        results = {name: _late(name) if task.cancelled() else task.result() for name, task in asked.items()}
        found = {name: retrieved for name, (retrieved, _) in results.items() if retrieved is not None}
        return found, [note for _, notes in results.values() for note in notes]

    async def _ask(
        self, plan: ArmPlan, query: Query, limit: Deadline
    ) -> tuple[Retrieved | None, list[Degradation]]:
        arm = self._retrievers[plan.name]
        try:
            retrieved = await arm.retrieve(query.text, plan.depth, query.filter, limit, plan.boost_scale)
        except (TimeoutError, DeadlineExceeded):
            return _late(plan.name)
        except QuarryError as error:
            return None, [Degradation(plan.name, Reason.UNAVAILABLE, str(error))]
        notes = _shortfall(plan.name, self._arm_state(plan.name))
        if retrieved.truncated:
            cut = "the encoder read the query's beginning"
            notes.append(Degradation(plan.name, Reason.TRUNCATED_QUERY, cut))
        return retrieved, notes

    async def _count(self, query: Query, deadline: Deadline) -> int | None:
        """Documents that match, where they are wanted and the arm that counts them is not asked; None if that
        fails too."""
        if query.min_relevance is not None or any(plan.name == self._browsing for plan in query.arms):
            return None
        try:
            async with asyncio.timeout(deadline.timeout_s):
                return (await self._in_thread(self._lexical.search, query.text, 0, query.filter)).total
        except (TimeoutError, QuarryError):
            return None

    async def _complete(
        self, query: Query, found: Mapping[str, Retrieved], deadline: Deadline
    ) -> tuple[list[ArmRun], dict[str, dict[Docno, Candidate]], list[Degradation]]:
        """Runs for fusion: in a weighted sum, each arm's true score for what the other arms proposed."""
        weights = {plan.name: plan.weight for plan in query.arms}
        known = {name: {c.docno: c for c in r.candidates} for name, r in found.items()}
        wanted = {docno for own in known.values() for docno in own}
        degraded: list[Degradation] = []

        async def one(name: str, retrieved: Retrieved) -> ArmRun:
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
                    reason = Reason.TIMEOUT if late else Reason.UNAVAILABLE
                    degraded.append(Degradation(name, reason, f"the {name} arm scored only its own"))
                    others = {}
            return ArmRun(name, retrieved.candidates, weights[name], retrieved.low, retrieved.high, others)

        runs = await asyncio.gather(*(one(name, retrieved) for name, retrieved in found.items()))
        return list(runs), known, degraded

    def _resolve(
        self,
        fused: Sequence[Fused],
        runs: Sequence[ArmRun],
        known: Mapping[str, Mapping[Docno, Candidate]],
        filter: Filter | None,
        visible: int,
    ) -> Sequence[RankedDocument]:
        """Fused documents that exist and pass the filter as they are now, ties by id."""
        ids = self._documents.ids([f.docno for f in fused])
        stale = [docno for docno, (_, version) in ids.items() if version > visible] if filter else []
        current = self._documents.read(stale) if stale else {}
        refused = {d.docno for d in current.values() if filter is not None and not matches(filter, d.fields)}
        ranks = {run.arm: {c.docno: n for n, c in enumerate(run.candidates, 1)} for run in runs}
        alive = [f for f in fused if f.docno in ids and f.docno not in refused]
        alive.sort(key=lambda f: (-f.score, ids[f.docno][0]))
        return FusedDocuments(alive[:MAX_RANKED], ids, ranks, known, _compared(known))

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call, *args)


def _compared(known: Mapping[str, Mapping[Docno, Candidate]]) -> Mapping[Docno, Candidate]:
    """The candidate of each document that the first arm has which compares passages and has any."""
    arms = [own for arm, own in known.items() if ARMS[arm].compares_passages]
    if len(arms) == 1:
        return arms[0]
    return {docno: candidate for own in reversed(arms) for docno, candidate in own.items()}


def _weighted(query: Query, runs: list[ArmRun]) -> list[ArmRun]:
    """``runs`` with the weights that they have for this query."""
    by_query = None if isinstance(query.fusion, Rrf) else query.fusion.by_query
    if by_query is None:
        return runs
    weights = weighted_by_query(runs, traits_of(query.text, runs), by_query)
    return [replace(run, weight=weight) for run, weight in zip(runs, weights, strict=True)]


def _fused(query: Query, runs: Sequence[ArmRun]) -> list[Fused]:
    if isinstance(query.fusion, Rrf):
        return reciprocal_rank_fusion(runs, query.fusion.k)
    return weighted_sum(runs)


def _highest(query: Query, runs: Sequence[ArmRun]) -> float:
    """The fused score that no document can exceed, over 0."""
    if isinstance(query.fusion, Rrf):
        return highest_reciprocal_rank(runs, query.fusion.k) or 1.0
    return 1.0


def _read_by(plan: RerankPlan, ranked: Sequence[RankedDocument]) -> tuple[str, ...]:
    """The models of ``plan`` that have read anything."""
    read = {reading.model for document in ranked for reading in document.readings}
    return tuple(stage.model for stage in plan.stages if stage.model in read)


def _total(counted: int | None, degraded: list[Degradation]) -> Total:
    """How many documents match; adds to ``degraded`` where that could not be counted."""
    if counted is None:
        note = Degradation(Stage.TOTAL, Reason.UNAVAILABLE, "matching documents were not counted")
        degraded.append(note)
    return Total(counted or 0, exact=counted is not None)


def _late(arm: str) -> tuple[None, list[Degradation]]:
    return None, [Degradation(arm, Reason.TIMEOUT, f"the {arm} arm did not answer in time")]


def _shortfall(arm: str, state: ArmState) -> list[Degradation]:
    """Why the arm's answers lack documents, if they do."""
    for reason, why in ((Reason.REBUILDING, state.lacking), (Reason.BEHIND, state.behind)):
        if why is not None:
            return [Degradation(arm, reason, f"the {arm} arm: {why}")]
    return []


def _refuse_incomplete(query: Query, degraded: Sequence[Degradation], nothing: bool) -> None:
    """Fails if nothing that is wanted is known, or if the caller wants all or nothing."""
    lacking = [d for d in degraded if d.incomplete]
    if not nothing and not (query.require_complete and lacking):
        return
    problem = "; ".join(d.detail for d in lacking) or "no arm was asked"
    if any(d.reason in (Reason.TIMEOUT, Reason.REDUCED_DEPTH) for d in lacking):
        raise DeadlineExceeded(problem)
    raise UnavailableError(problem)
