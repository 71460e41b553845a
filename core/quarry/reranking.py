"""The second stage of a search: a cross-encoder reads the query with each candidate's best passage."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, QuarryError
from quarry.models.base import PairScore
from quarry.pipeline import Documents
from quarry.queries import RerankPlan
from quarry.ranking import Degradation, RankedDocument, Reason, Stage
from quarry.types import Fields


class PairScorer(Protocol):
    """A cross-encoder behind its batcher."""

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[PairScore]: ...

    def fitting(self, pairs: Sequence[tuple[str, str]], seconds: float) -> int:
        """How many of ``pairs``, from the first, are likely to be scored in ``seconds``."""
        ...


Passages = Callable[[Sequence[Fields]], Awaitable[list[list[str]]]]
"""The passages of each document, in order."""


class PassageTexts(Protocol):
    """Finds the text that a re-ranker reads of each document."""

    async def texts(self, ranked: Sequence[RankedDocument]) -> list[str]:
        """The best passage of each; empty for one that is gone."""
        ...


class BestPassages:
    """The passage that the dense arm found best; the first one where it compared none."""

    def __init__(self, documents: Documents, passages: Passages) -> None:
        self._documents, self._passages = documents, passages

    async def texts(self, ranked: Sequence[RankedDocument]) -> list[str]:
        found = await asyncio.to_thread(self._documents.read, [r.docno for r in ranked])
        alive = [r for r in ranked if r.docno in found]
        passages = await self._passages([found[r.docno].fields for r in alive])
        best = {
            r.docno: texts[min(r.passage or 0, len(texts) - 1)] if texts else ""
            for r, texts in zip(alive, passages, strict=True)
        }
        return [best.get(r.docno, "") for r in ranked]


class CrossEncoderReranking:
    """Re-ranks the first candidates and leaves the rest below them, in fused order."""

    def __init__(self, scorer: Callable[[str], PairScorer], passages: PassageTexts) -> None:
        """``scorer`` finds a loaded model by name; it raises ModelError for one that is not."""
        self._scorer, self._passages = scorer, passages

    async def rerank(
        self, plan: RerankPlan, text: str, ranked: Sequence[RankedDocument], deadline: Deadline
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        try:
            async with asyncio.timeout(deadline.timeout_s):
                return await self._rerank(plan, text, ranked, deadline)
        except (TimeoutError, DeadlineExceeded):
            late = Degradation(Stage.RERANK, Reason.TIMEOUT, "re-ranking did not end in time")
            return list(ranked), [late]
        except QuarryError as error:
            return list(ranked), [Degradation(Stage.RERANK, Reason.UNAVAILABLE, str(error))]

    async def _rerank(
        self, plan: RerankPlan, text: str, ranked: Sequence[RankedDocument], deadline: Deadline
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        scorer = self._scorer(plan.model)
        first = ranked[: plan.depth]
        pairs = [(text, passage) for passage in await self._passages.texts(first)]
        depth = scorer.fitting(pairs, deadline.remaining_s)
        scores = await scorer.score(pairs[:depth])
        scored = [
            replace(document, score=s.score, rerank_score=s.score, truncated=s.truncated)
            for document, s in zip(first[:depth], scores, strict=True)
        ]
        scored.sort(key=lambda document: (-document.score, document.id))
        degraded = []
        if depth < len(first):
            detail = f"{depth} of {len(first)} candidates were re-ranked, to keep the deadline"
            degraded.append(Degradation(Stage.RERANK, Reason.REDUCED_DEPTH, detail))
        return [*scored, *ranked[depth:]], degraded
