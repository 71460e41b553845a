"""The first stage of a search: each arm gives its candidates, and scores those that only others gave."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, NoVectorsError, QuarryError, RetrieverUnavailableError
from quarry.facets import Facet, FacetRequest
from quarry.filters import Filter
from quarry.ranking.fusion import ArmRun
from quarry.ranking.queries import MAX_RANKED, ArmPlan, Query, Rrf
from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage
from quarry.retrieval.base import LexicalIndex
from quarry.retrieval.registry import ARMS, find_browsing_arm
from quarry.retrieval.retriever import PassageRetriever, Retrieved, Retriever
from quarry.retrieval.text_query import SearchText, TextQuery
from quarry.search.answer_schedule import Slot
from quarry.search.shortfalls import (
    ArmState,
    find_shortfall,
    refuse_incomplete,
    report_failure,
    report_late,
)
from quarry.types import Candidate, Docno

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """The findings of all arms for one query.

    Attributes:
        runs: of the arms that answered, in the order in which the query names them.
        known: by arm, all that it gave or scored.
        counted: documents that match a word, in all; None if nobody counted them.
        why_uncounted: what kept BM25 from counting them; empty if it did, or if nobody asked it to.
        visible: sequence number up to which each arm that was asked answers with current versions.
        degraded: what the arms did not do.
        timings_s: seconds by stage: encode, and each arm by its name.
        answered_s: when the arms had answered, by ``time.perf_counter``: completing runs comes after it.
    """

    runs: Sequence[ArmRun]
    known: Mapping[str, Mapping[Docno, Candidate]]
    counted: int | None
    why_uncounted: str
    visible: int
    degraded: Sequence[Degradation]
    timings_s: Mapping[str, float]
    answered_s: float


class FirstStage:
    """Asks the arms of one generation. Holds no state of a request.

    Attributes:
        arms: names of all.
        browsing: name of the arm that browses, which is the one that matches words.
        lexical: index of that arm.
    """

    def __init__(
        self,
        retrievers: Iterable[Retriever],
        lexical: LexicalIndex,
        arm_state: Callable[[str], ArmState],
        threads: Executor,
    ) -> None:
        self.browsing, self.lexical = find_browsing_arm().name, lexical
        self._retrievers = {retriever.name: retriever for retriever in retrievers}
        self.arms = tuple(self._retrievers)
        self._arm_state = arm_state
        self._threads = threads

    def use(self, retriever: Retriever) -> None:
        """Puts ``retriever`` in the place of the one of its name."""
        self._retrievers[retriever.name] = retriever

    def put(self, retriever: Retriever) -> "FirstStage":
        """Makes a first stage that has ``retriever`` in the place of the one of its name."""
        changed = copy(self)
        changed._retrievers = {**self._retrievers, retriever.name: retriever}
        return changed

    @property
    def comparing(self) -> str:
        """Name of the arm that compares passages. Raises NoVectorsError if there is none."""
        name = next((name for name in self.arms if ARMS[name].compares_passages), None)
        if name is None:
            raise NoVectorsError
        return name

    async def read_vectors(
        self, docnos: Collection[Docno], limit: Deadline
    ) -> Mapping[Docno, NDArray[np.float32]]:
        """Reads the vectors of documents' passages, shape ``(passages, dimension)``; of those that have any.

        Raises TimeoutError, NoVectorsError, or as the arm does.
        """
        async with asyncio.timeout(limit.timeout_s):
            return await self._get_comparing().read_vectors(docnos)

    def search_for_vector(self, vector: NDArray[np.float32] | None) -> "FirstStage":
        """Makes a first stage that looks for what is nearest to ``vector``, whatever the query's text is.

        Without one, the arm that compares passages does not answer.
        """
        return self.put(self._get_comparing().search_for_vector(vector))

    def _get_comparing(self) -> PassageRetriever:
        found = self._retrievers[self.comparing]
        if not isinstance(found, PassageRetriever):
            raise RetrieverUnavailableError(self.comparing, "it gives no vectors of documents")
        return found

    def find_shortfalls(self, arms: Iterable[str]) -> list[Degradation]:
        """Tells why these arms do not hold all documents, of those that do not."""
        return [note for arm in arms for note in find_shortfall(arm, self._arm_state(arm))]

    async def gather(self, query: Query, slot: Slot) -> Found:
        """Retrieves what each arm gives, and its scores of what the others give.

        Raises:
            DeadlineExceeded: no arm answered in time, or ``require_complete`` and one was late.
            UnavailableError: no arm could answer, or ``require_complete`` and one failed.
        """
        visible = min((self._arm_state(plan.name).visible for plan in query.arms), default=0)
        (found, degraded), (counted, why) = await asyncio.gather(
            self._retrieve(query, slot), self._count(query, slot.limit)
        )
        refuse_incomplete(query, degraded, nothing=not found)
        answered_s = time.perf_counter()
        runs, known, late = await self._complete_runs(query, found, slot.limit)
        counted = next((r.total for r in found.values() if r.total is not None), counted)
        return Found(runs, known, counted, why, visible, degraded + late, _list_timings(found), answered_s)

    async def retrieve_runs(self, query: Query, deadline: Deadline) -> list[ArmRun]:
        """Retrieves what each arm gives, and its true scores of what the others give.

        Raises DeadlineExceeded or UnavailableError if an arm does not answer in full.
        """
        query = replace(query, require_complete=True)
        found, degraded = await self._retrieve(query, Slot.make_single(deadline))
        refuse_incomplete(query, degraded, nothing=not found)
        runs, _, late = await self._complete_runs(query, found, deadline)
        refuse_incomplete(query, late, nothing=False)
        return runs

    async def retrieve_own(
        self, text: SearchText, arms: Sequence[ArmPlan], filter: Filter | None
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

    async def retrieve_by_words(self, query: Query, limit: Deadline) -> Retrieved:
        """Retrieves as many documents as a list may have that match a word. Raises as the arm does."""
        arm, scale = self._retrievers[self.browsing], self._plan_words(query).boost_scale
        return await arm.retrieve(query.search_text, MAX_RANKED, query.filter, limit, scale)

    async def find_matching(self, query: Query, docnos: Collection[Docno], limit: Deadline) -> set[Docno]:
        """Finds which of these documents match a word of the query. Raises as ``score_by_words``."""
        return set(await self.score_by_words(query, docnos, limit))

    async def score_by_words(
        self, query: Query, docnos: Collection[Docno], limit: Deadline
    ) -> Mapping[Docno, float]:
        """Scores those of the documents that match a word, as the query asks BM25 to.

        Raises TimeoutError, or QuarryError as BM25 does.
        """
        scale = self._plan_words(query).boost_scale
        return await self._run(partial(self.lexical.score_documents, query.search_text, docnos, scale), limit)

    async def count_facets(
        self,
        query: Query,
        facets: Sequence[FacetRequest],
        limit: Deadline,
        hidden: Collection[Docno] = (),
    ) -> tuple[list[Facet], list[Degradation]]:
        """Counts what matches by words, passes the filter and is not ``hidden``; nothing, and why, if that
        fails or is late.

        Raises DeadlineExceeded or UnavailableError then if ``require_complete``.
        """
        count = partial(self.lexical.count_facets, query.search_text, query.filter, facets, hidden, limit)
        try:
            return await self._run(count, limit), []
        except (TimeoutError, QuarryError) as error:
            note = report_failure(DegradedStage.FACETS, error, "facets were not counted")
        refuse_incomplete(query, [note], nothing=False)
        return [], [note]

    async def rewrite_query(self, query: Query, limit: Deadline) -> tuple[SearchText, list[Degradation]]:
        """Says what BM25 finds for the query, for whoever marks it in texts.

        If the index does not answer in time, these are the terms as they were typed, and why.

        Raises DeadlineExceeded or UnavailableError then if ``require_complete``.
        """
        if query.terms is None:
            return query.text, []
        try:
            return await self._run(partial(self.lexical.rewrite_query, query.terms), limit), []
        except (TimeoutError, QuarryError) as error:
            note = report_failure(DegradedStage.SNIPPETS, error, "words may not be marked in snippets")
        refuse_incomplete(query, [note], nothing=False)
        return query.terms, [note]

    def _plan_words(self, query: Query) -> ArmPlan:
        """Returns how the query asks BM25, or the default if it does not."""
        return next((plan for plan in query.arms if plan.name == self.browsing), ArmPlan(self.browsing))

    async def _run(self, call: Callable[[], T], limit: Deadline) -> T:
        """Runs a call that blocks in a thread. Raises TimeoutError at ``limit``, or as the call does."""
        async with asyncio.timeout(limit.timeout_s):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)

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
            retrieved = await arm.retrieve(
                query.search_text, plan.depth, query.filter, limit, plan.boost_scale
            )
            if query.terms is not None and query.terms.restricts and plan.name != self.browsing:
                retrieved = await self._drop_excluded(retrieved, query.terms)
        except (TimeoutError, DeadlineExceeded):
            return report_late(plan.name)
        except QuarryError as error:
            return None, [Degradation(plan.name, DegradationReason.UNAVAILABLE, str(error))]
        notes = self.find_shortfalls([plan.name])
        if retrieved.truncated:
            cut = "the encoder read the query's beginning"
            notes.append(Degradation(plan.name, DegradationReason.TRUNCATED_QUERY, cut))
        return retrieved, notes

    async def _drop_excluded(self, retrieved: Retrieved, query: TextQuery) -> Retrieved:
        """Drops candidates that lack a required term or have an excluded one, as the lexical index says."""
        docnos, loop = [candidate.docno for candidate in retrieved.candidates], asyncio.get_running_loop()
        kept = await loop.run_in_executor(self._threads, self.lexical.keep_admitted, query, docnos)
        return replace(retrieved, candidates=[c for c in retrieved.candidates if c.docno in kept])

    async def _count(self, query: Query, deadline: Deadline) -> tuple[int | None, str]:
        """Counts the documents that match, unless an arm that is asked counts them; None, and why, if that
        fails."""
        if query.min_relevance is not None or any(plan.name == self.browsing for plan in query.arms):
            return None, ""
        search = partial(self.lexical.search, query.search_text, 0, query.filter)
        try:
            return (await self._run(search, deadline)).total, ""
        except TimeoutError:
            return None, "not in time"
        except QuarryError as error:
            return None, str(error)

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
                    degraded.append(report_failure(name, error, f"the {name} arm scored only its own"))
                    others = {}
            return ArmRun(name, retrieved.candidates, weights[name], retrieved.low, retrieved.high, others)

        runs = await asyncio.gather(*(complete_one(name, retrieved) for name, retrieved in found.items()))
        return list(runs), known, degraded


def _list_timings(found: Mapping[str, Retrieved]) -> dict[str, float]:
    timings = {name: retrieved.search_s for name, retrieved in found.items()}
    encoding = [retrieved.encode_s for retrieved in found.values() if retrieved.encode_s]
    return {**timings, "encode": encoding[-1]} if encoding else timings
