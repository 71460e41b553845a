"""Arms, a log and a re-ranker that do what a test tells them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NoReturn

from quarry.deadline import NO_LIMIT, Deadline
from quarry.errors import QuarryError
from quarry.filters import Filter
from quarry.models.base import PairScore
from quarry.models.blend import RERANKER_ALONE, Blend
from quarry.models.calibration import Calibration
from quarry.ranking.queries import Query, RerankPlan, WeightedSum, plan_default_arms
from quarry.ranking.ranking import RankedDocument
from quarry.retrieval.lexical.memory_lexical import MemoryLexicalIndex
from quarry.retrieval.retriever import Retrieved
from quarry.retrieval.text_query import SearchText
from quarry.schema import DEFAULT_SCHEMA
from quarry.search.first_stage import FirstStage
from quarry.search.pipeline import Reranking, Searcher
from quarry.search.reranking import CrossEncoderReranking
from quarry.search.resolving import Documents
from quarry.search.shortfalls import ArmState
from quarry.types import Candidate, Change, Docno, Document, Fields

Scores = Mapping[int, float]


class FixedArm:
    """Answers with fixed scores, once it is let go.

    Attributes:
        asked: set when a search waits for it.
        cancelled: set when such a wait is given up.
        let_go: ends the wait of an arm that is stuck.
    """

    def __init__(
        self,
        name: str,
        scores: Scores,
        others: Scores | None = None,
        error: QuarryError | None = None,
        stuck: bool = False,
        stuck_completing: bool = False,
        truncated: bool = False,
    ) -> None:
        self.name = name
        self._scores, self._others, self._error, self._truncated = scores, others or {}, error, truncated
        self._stuck, self._stuck_completing = stuck, stuck_completing
        self.asked, self.cancelled, self.let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def retrieve(
        self,
        text: SearchText,
        depth: int,
        filter: Filter | None,
        limit: Deadline = NO_LIMIT,
        boost_scale: float = 1.0,
    ) -> Retrieved:
        if self._stuck:
            await self._wait()
        if self._error is not None:
            raise self._error
        order = sorted(self._scores, key=lambda docno: (-self._scores[docno], docno))
        candidates = [Candidate(Docno(n), self._scores[n]) for n in order[:depth]]
        dense = self.name == "dense"
        return Retrieved(
            candidates,
            low=-1.0 if dense else 0.0,
            high=1.0 if dense else 10.0,
            complete=self._complete,
            absent_is_low=not dense,
            total=None if dense else len(self._scores),
            truncated=self._truncated,
        )

    async def _complete(self, docnos: Collection[Docno]) -> dict[Docno, Candidate]:
        if self._stuck_completing:
            await self._wait()
        known = {**self._others, **self._scores}
        return {docno: Candidate(docno, known[docno]) for docno in docnos if docno in known}

    async def _wait(self) -> None:
        self.asked.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FixedDocuments:
    """A log of documents called ``d1``, ``d2``, ..."""

    def __init__(self, documents: Mapping[int, Fields], version: int = 1) -> None:
        self._documents = {
            Docno(n): Document(Docno(n), f"d{n}", fields, version, 0) for n, fields in documents.items()
        }

    def put(self, number: int, fields: Fields, version: int = 2) -> None:
        self._documents[Docno(number)] = Document(Docno(number), f"d{number}", fields, version, 0)

    def remove(self, number: int) -> None:
        del self._documents[Docno(number)]

    def read_ids(self, docnos: Collection[Docno]) -> dict[Docno, tuple[str, int]]:
        return {n: (d.id, d.version) for n, d in self.read(docnos).items()}

    def read(self, docnos: Collection[Docno]) -> dict[Docno, Document]:
        return {n: self._documents[n] for n in docnos if n in self._documents}

    def find_docnos(self, ids: Collection[str]) -> dict[str, tuple[Docno, int]]:
        return {d.id: (d.docno, d.version) for d in self._documents.values() if d.id in ids}


class FixedScorer:
    """A cross-encoder: the longer the passage, the better.

    Attributes:
        fits: how many pairs it says there is time for.
        sign: -1: the shorter, the better.
        read: texts that it has scored, in order.
    """

    def __init__(
        self,
        fits: int = 1_000,
        error: QuarryError | None = None,
        stuck: bool = False,
        blend: Blend = RERANKER_ALONE,
        sign: int = 1,
        calibration: Calibration | None = None,
    ) -> None:
        self.fits, self._error, self._stuck = fits, error, stuck
        self.blend, self.sign, self.calibration = blend, sign, calibration
        self.seconds: list[float] = []
        self.scored: list[int] = []
        self.read: list[str] = []

    async def score_in_time(self, pairs: Sequence[tuple[str, str]], seconds: float) -> list[PairScore]:
        self.seconds.append(seconds)
        pairs = pairs[: self.fits]
        if self._stuck:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error
        self.scored.append(len(pairs))
        self.read += [passage for _, passage in pairs]
        return [PairScore(float(self.sign * len(passage)), False) for _, passage in pairs]


class Texts:
    """The text of each document as its one passage.

    Attributes:
        asked: documents of each call.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.asked: list[list[str]] = []

    async def read_texts(self, query: str, ranked: Sequence[RankedDocument]) -> list[str]:
        self.asked.append([r.id for r in ranked])
        found = self._documents.read([r.docno for r in ranked])
        return [str(found[r.docno].fields.get("text", "")) for r in ranked]


class NoReranking:
    async def rerank(self, *arguments: object) -> NoReturn:
        raise AssertionError("nobody asked for re-ranking")


@dataclass
class Stack:
    """A searcher over fakes, and how far each arm is.

    Attributes:
        scorer: the re-ranker, or why there is none; by model, where there are several.
    """

    arms: Sequence[FixedArm]
    threads: Executor
    documents: Mapping[int, Fields] = field(
        default_factory=lambda: {n: {"text": "x" * n} for n in range(1, 30)}
    )
    states: Mapping[str, ArmState] = field(default_factory=dict)
    scorer: FixedScorer | QuarryError | Mapping[str, FixedScorer | QuarryError] | None = None

    def searcher(self, log: Documents | None = None) -> Searcher:
        log = FixedDocuments(self.documents) if log is None else log
        lexical = MemoryLexicalIndex("g", DEFAULT_SCHEMA)
        lexical.apply([Change(Docno(n), 1, fields) for n, fields in self.documents.items()])
        lexical.commit(1)
        reranking: Reranking = NoReranking()
        if self.scorer is not None:
            reranking = CrossEncoderReranking(self._scorer, Texts(log))
        first_stage = FirstStage(self.arms, lexical, self._read_state, self.threads)
        return Searcher("g", first_stage, log, reranking, self.threads)

    def make_query(self, text: str = "words", **settings: object) -> Query:
        arms = plan_default_arms(tuple(arm.name for arm in self.arms), WeightedSum())
        return Query(text, **{"arms": arms, **settings})  # type: ignore[arg-type]

    def _read_state(self, arm: str) -> ArmState:
        return self.states.get(arm, ArmState(1, None))

    def _scorer(self, model: str) -> FixedScorer:
        found = self.scorer[model] if isinstance(self.scorer, Mapping) else self.scorer
        if isinstance(found, QuarryError):
            raise found
        assert isinstance(found, FixedScorer)
        return found


PLAN = RerankPlan("model", depth=3)
