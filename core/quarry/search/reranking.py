"""The second stage of a search: cross-encoders read the query with each candidate's best passage."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from quarry.deadline import Deadline
from quarry.errors import DeadlineExceeded, NotCalibratedError, QuarryError
from quarry.models.base import PairScore
from quarry.models.blend import Blend
from quarry.models.calibration import Calibration
from quarry.ranking.cascade import RerankStage
from quarry.ranking.queries import RerankPlan
from quarry.ranking.ranking import Degradation, DegradationReason, DegradedStage, RankedDocument, RerankScore
from quarry.ranking.relevance import FusedScale
from quarry.ranking.score_scale import ScoreBasis
from quarry.search.matching_passage import find_matching_passage
from quarry.search.resolving import Documents
from quarry.types import Docno, Fields


class PairScorer(Protocol):
    """A cross-encoder behind its batcher.

    Attributes:
        blend: how its scores join the fused ones.
        calibration: how blended scores become probabilities of relevance; None: that is not known.
    """

    @property
    def blend(self) -> Blend: ...
    @property
    def calibration(self) -> Calibration | None: ...

    async def score_in_time(self, pairs: Sequence[tuple[str, str]], seconds: float) -> list[PairScore]:
        """Scores as many of ``pairs``, from the first, as are likely to be scored in ``seconds``."""
        ...


Passages = Callable[[Sequence[Fields]], Awaitable[list[list[str]]]]
"""The passages of each document, in order."""


class PassageTexts(Protocol):
    """Finds the text that a re-ranker reads of each document."""

    async def read_texts(self, query: str, ranked: Sequence[RankedDocument]) -> list[str]:
        """Reads the best passage of each for the query; empty for one that is gone."""
        ...


class BestPassages:
    """The passage that the dense arm found best; where it compared none, the one that matches by words."""

    def __init__(self, documents: Documents, passages: Passages) -> None:
        self._documents, self._passages = documents, passages

    async def read_texts(self, query: str, ranked: Sequence[RankedDocument]) -> list[str]:
        found = await asyncio.to_thread(self._documents.read, [r.docno for r in ranked])
        alive = [r for r in ranked if r.docno in found]
        passages = await self._passages([found[r.docno].fields for r in alive])
        chosen = await asyncio.to_thread(lambda: list(map(partial(_choose_best, query), alive, passages)))
        best = dict(zip((r.docno for r in alive), chosen, strict=True))
        return [best.get(r.docno, "") for r in ranked]


def _choose_best(query: str, document: RankedDocument, passages: Sequence[str]) -> str:
    if not passages:
        return ""
    if document.passage is None:
        return passages[find_matching_passage(query, passages)]
    return passages[min(document.passage, len(passages) - 1)]


class CrossEncoderReranking:
    """Re-ranks the first candidates and leaves the rest below them, in the order that they had.

    In a cascade each model does so with the order that the one before it has left. One that fails, or for
    which there is no time, leaves that order as it is.
    """

    def __init__(self, scorer: Callable[[str], PairScorer], passages: PassageTexts) -> None:
        """``scorer`` finds a loaded model by name; it raises ModelError for one that is not."""
        self._scorer, self._passages = scorer, passages

    async def rerank(
        self,
        plan: RerankPlan,
        text: str,
        ranked: Sequence[RankedDocument],
        fused: FusedScale,
        deadline: Deadline,
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        scorers = {stage.model: self._take_scorer(stage.model) for stage in plan.stages}
        if plan.min_relevance is not None:
            _check_calibrated(plan.model, scorers[plan.model], fused)
        bases = {stage.model: ScoreBasis(number) for number, stage in enumerate(plan.stages, start=1)}
        search = _Search(text, fused, deadline, self._passages, scorers, bases)
        order, degraded = list(ranked), []
        for stage in plan.stages if order else ():
            try:
                async with asyncio.timeout(deadline.timeout_s):
                    order, notes = await self._read(stage, order, search)
            except (TimeoutError, DeadlineExceeded):
                notes = [
                    _make_degradation(stage, DegradationReason.TIMEOUT, "re-ranking did not end in time")
                ]
            except QuarryError as error:
                notes = [_make_degradation(stage, DegradationReason.UNAVAILABLE, str(error))]
            degraded += notes
        return order, degraded

    def _take_scorer(self, model: str) -> PairScorer | QuarryError:
        """Takes the model, or says why there is none: one that is retired while others read can still be
        used."""
        try:
            return self._scorer(model)
        except QuarryError as error:
            return error

    async def _read(
        self, stage: RerankStage, order: list[RankedDocument], search: "_Search"
    ) -> tuple[list[RankedDocument], list[Degradation]]:
        scorer = search.scorers[stage.model]
        if isinstance(scorer, QuarryError):
            raise scorer
        first = order[: stage.depth]
        pairs = [(search.text, passage) for passage in await search.read_passages(first)]
        scores = await scorer.score_in_time(pairs, search.deadline.remaining_s)
        depth = len(scores)
        basis = search.bases[stage.model]
        scored = [
            _apply_score(document, stage.model, basis, score, scorer, search.fused)
            for document, score in zip(first[:depth], scores, strict=True)
        ]
        notes = []
        if depth < len(first):
            detail = f"{depth} of {len(first)} candidates were re-ranked, to keep the deadline"
            notes.append(_make_degradation(stage, DegradationReason.REDUCED_DEPTH, detail))
        return [*_order(scored, scorer.blend), *order[depth:]], notes


@dataclass(slots=True)
class _Search:
    """The state that all stages of a search share. A passage is looked up for the first one that reads it."""

    text: str
    fused: FusedScale
    deadline: Deadline
    passages: PassageTexts
    scorers: Mapping[str, PairScorer | QuarryError]
    bases: Mapping[str, ScoreBasis]
    _found: dict[Docno, str] = field(default_factory=dict)

    async def read_passages(self, documents: Sequence[RankedDocument]) -> list[str]:
        unknown = [document for document in documents if document.docno not in self._found]
        if unknown:
            texts = await self.passages.read_texts(self.text, unknown)
            self._found.update(zip((document.docno for document in unknown), texts, strict=True))
        return [self._found[document.docno] for document in documents]


def _make_degradation(stage: RerankStage, reason: DegradationReason, detail: str) -> Degradation:
    return Degradation(DegradedStage.RERANK, reason, detail, stage.model)


def _check_calibrated(model: str, scorer: PairScorer | QuarryError, fused: FusedScale) -> None:
    """Raises NotCalibratedError if no search like this one gets probabilities from the model that reads
    last. One that failed to load may get them the next time: that is a degradation."""
    if isinstance(scorer, QuarryError):
        return
    if scorer.calibration is None:
        raise NotCalibratedError(f"the re-ranker {model} has no calibration", model)
    if scorer.blend.fused and scorer.calibration.ranking != fused.ranking:
        fitted = scorer.calibration.ranking or "the default ranking configuration"
        raise NotCalibratedError(
            f"{model} is calibrated for the fused scores of {fitted}, and this search merges the arms in "
            "another way",
            model,
        )


def _apply_score(
    document: RankedDocument,
    model: str,
    basis: ScoreBasis,
    found: PairScore,
    scorer: PairScorer,
    fused: FusedScale,
) -> RankedDocument:
    score = scorer.blend.score(found.score, document.fused_score / fused.highest)
    reading = RerankScore(model, found.score, found.truncated)
    return replace(
        document,
        score=score,
        readings=(*document.readings, reading),
        relevance=_estimate_relevance(scorer, score, fused),
        scored_by=basis,
    )


def _estimate_relevance(scorer: PairScorer, score: float, fused: FusedScale) -> float | None:
    """Estimates P(relevant); None without a calibration, or where the blend counts a fused score that is not
    the one that it was fitted to."""
    calibration = scorer.calibration
    if calibration is None:
        return None
    if scorer.blend.fused and not (fused.complete and fused.ranking == calibration.ranking):
        return None
    return float(calibration.estimate_probability(score))


def _order(scored: Sequence[RankedDocument], blend: Blend) -> list[RankedDocument]:
    """Orders best first, ties by id; where the fused score counts, its order goes before the id's: two fused
    scores may differ by less than their multiples can."""

    def make_key(document: RankedDocument) -> tuple[float, int, str]:
        return -document.score, document.fused_rank if blend.fused else 0, document.id

    return sorted(scored, key=make_key)
