"""The second stage of a search: a cross-encoder reads the query with each candidate's best passage."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, QuarryError
from quarry.models.base import PairScore
from quarry.models.blend import Blend
from quarry.pipeline import Documents
from quarry.queries import RerankPlan
from quarry.ranking import Degradation, RankedDocument, Reason, Stage
from quarry.types import Fields


class PairScorer(Protocol):
    """A cross-encoder behind its batcher.

    Attributes:
        blend: how its scores join the fused ones.
    """

    @property
    def blend(self) -> Blend: ...
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
        self,
        plan: RerankPlan,
        text: str,
        ranked: Sequence[RankedDocument],
        highest_fused: float,
        deadline: Deadline,
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        try:
            async with asyncio.timeout(deadline.timeout_s):
                return await self._rerank(plan, text, ranked, highest_fused, deadline)
        except (TimeoutError, DeadlineExceeded):
            late = Degradation(Stage.RERANK, Reason.TIMEOUT, "re-ranking did not end in time")
            return list(ranked), [late]
        except QuarryError as error:
            return list(ranked), [Degradation(Stage.RERANK, Reason.UNAVAILABLE, str(error))]

    async def _rerank(
        self,
        plan: RerankPlan,
        text: str,
        ranked: Sequence[RankedDocument],
        highest_fused: float,
        deadline: Deadline,
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        scorer = self._scorer(plan.model)
        first = ranked[: plan.depth]
        pairs = [(text, passage) for passage in await self._passages.texts(first)]
        depth = scorer.fitting(pairs, deadline.remaining_s)
        scores = await scorer.score(pairs[:depth])
        scored = [
            _rescored(document, score, scorer.blend, highest_fused)
            for document, score in zip(first[:depth], scores, strict=True)
        ]
        degraded = []
        if depth < len(first):
            detail = f"{depth} of {len(first)} candidates were re-ranked, to keep the deadline"
            degraded.append(Degradation(Stage.RERANK, Reason.REDUCED_DEPTH, detail))
        return [*_ordered(scored, scorer.blend), *ranked[depth:]], degraded


def _rescored(
    document: RankedDocument, found: PairScore, blend: Blend, highest_fused: float
) -> RankedDocument:
    score = blend.score(found.score, document.fused_score / highest_fused)
    return replace(document, score=score, rerank_score=found.score, truncated=found.truncated)


def _ordered(scored: Sequence[RankedDocument], blend: Blend) -> list[RankedDocument]:
    """Best first, ties by id; where the fused score counts, its order goes before the id's: two fused scores
    may differ by less than their multiples can."""

    def place(document: RankedDocument) -> tuple[float, int, str]:
        return -document.score, document.fused_rank if blend.fused else 0, document.id

    return sorted(scored, key=place)
