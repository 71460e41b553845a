"""One tuning from queries to a configuration and a verdict on it, by cross-validation."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from quarry.errors import QuarryError
from quarry.jobs.child import Progress
from quarry.mining.spec import JudgedQuery
from quarry.questions import question_key
from quarry.ranking.tuned import RankingConfiguration
from quarry.ranking.weighting import SHARED
from quarry.retrieval.registry import ARMS
from quarry.training.limits import LEAST_DECIDING
from quarry.training.marks import packed
from quarry.training.spec import EvaluationReport, Fold, TuningResult, TuningSpec
from quarry_trainer.cycle.calls import ServerCalls
from quarry_trainer.data.dataset import BadExamplesError
from quarry_trainer.data.linked_queries import components_of
from quarry_trainer.data.material import judged_marks
from quarry_trainer.evaluation.evaluation import feedback_of, spent_on
from quarry_trainer.measures import NDCG, Orders
from quarry_trainer.tuning.advice import with_advice
from quarry_trainer.tuning.fitting import Choice, Gains, Setting, fit
from quarry_trainer.tuning.folds import folds_of
from quarry_trainer.tuning.lists import SCALES, Counted, LiveLists
from quarry_trainer.tuning.positives import Material, chosen, drawn, judged
from quarry_trainer.tuning.searches import Searches
from quarry_trainer.tuning.verdict import Comparison, ruled_by_clicks, ruled_by_judgments

STAGES = {"lists": (0.1, 0.6), "searching: serving": (0.6, 0.8), "searching: tuned": (0.8, 1.0)}
"""Where each stage begins and ends in the progress of the whole."""
LEAST_QUERIES = LEAST_DECIDING
"""With a relevant document, of fewer nothing is fitted: the gate would not look at them."""
_PLACES = 6


def tune_ranking(spec: TuningSpec, folder: Path, progress: Progress) -> TuningResult:
    """Fits how the collection's arms are merged, and says whether people would see better orders.

    Each part of the queries is merged by what was fitted to the others, and searched as people search,
    re-ranking and all; that decides. What is registered was fitted to all of them.

    Args:
        folder: of the job, in the data folder of its server.

    Raises:
        QuarryError: the server does not answer, or something else serves meanwhile.
    """
    started, data = time.monotonic(), folder.resolve().parent.parent
    with ServerCalls(spec.server) as server:
        try:
            progress("positives", 0.0)
            material = judged(spec.judgments) if spec.judgments else chosen(server, spec, data, folder)
            if len(material.queries) < LEAST_QUERIES:
                raise TooFewError(len(material.queries))
            return _Tuning(spec, drawn(material, spec.seed), server, data, progress).run(started)
        except (BadExamplesError, TooFewError) as error:
            report = EvaluationReport(
                verdict="BAD_DATA" if isinstance(error, BadExamplesError) else "INSUFFICIENT_DATA",
                advice=(str(error),),
                source="judgments" if spec.judgments else "clicks",
                compared_with=spec.serving,
            )
            return _nothing(spec, report, time.monotonic() - started)


class TooFewError(QuarryError):
    """There is less than a tuning can be held to."""

    def __init__(self, queries: int) -> None:
        super().__init__(
            f"{queries:,} queries have a relevant document, under {LEAST_QUERIES}: collect clicks for "
            "longer, or give judgments (--queries, --qrels)"
        )


class _Tuning:
    """Made and run once."""

    def __init__(
        self, spec: TuningSpec, material: Material, server: ServerCalls, data: Path, progress: Progress
    ) -> None:
        self._spec, self._material, self._data, self._progress = spec, material, data, progress
        self._lists = LiveLists(server, spec.collection, spec.arms)
        self._searches = Searches(server, spec)
        self._queries = material.queries
        self._components = components_of(self._queries)

    def run(self, started: float) -> TuningResult:
        scales = SCALES if self._spec.boosts and any(ARMS[arm].boosts for arm in self._spec.arms) else (1.0,)
        gains = self._lists.gains(self._queries, scales, self._counted("lists"))
        final = configuration_of(fit(gains, self._components), self._spec.arms)
        by_part, part = self._by_part(gains)
        texts = {query.id: query.text for query in self._queries}
        own = {query.id: by_part[fold] for query, fold in zip(self._queries, part, strict=True)}
        serving = self._searches.serving(texts, self._counted("searching: serving"))
        tuned = self._searches.by(own, texts, self._counted("searching: tuned"))
        comparison = Comparison.of(self._queries, tuned, serving)
        report = with_advice(self._ruled(comparison, own, final), self._spec)
        details = {**report.details, "configuration": final.model_dump(mode="json")}
        material = self._material
        return TuningResult(
            evaluation=report.model_copy(update={"details": details}),
            configuration=final,
            queries=len(self._queries),
            source=material.source,
            folds=_folds(comparison, part, by_part, self._queries),
            data_hash=material.data_hash,
            reranker=self._spec.reranker,
            simulated=material.simulated,
            feedback_start_us=material.feedback_us and material.feedback_us[0],
            feedback_end_us=material.feedback_us and material.feedback_us[1],
            attempt=self._spec.name,
            decided_by=packed(judged_marks(self._queries)) if material.source == "judgments" else "",
            tune_s=time.monotonic() - started,
        )

    def _by_part(self, gains: Mapping[Setting, Gains]) -> tuple[dict[int, RankingConfiguration], list[int]]:
        """By part what was fitted to the others, and the part of each query."""
        part = folds_of(self._components, self._spec.seed)
        found: dict[int, RankingConfiguration] = {}
        for fold in sorted(set(part)):
            others = np.flatnonzero(np.array(part) != fold)
            some = {setting: own.take(others) for setting, own in gains.items()}
            choice = fit(some, [self._components[n] for n in others]) if len(others) else Choice()
            found[fold] = configuration_of(choice, self._spec.arms)
        return found, part

    def _ruled(
        self, comparison: Comparison, own: Mapping[str, RankingConfiguration], final: RankingConfiguration
    ) -> EvaluationReport:
        spec, spent = self._spec, spent_on(self._data, self._spec.collection)
        if self._material.source == "judgments":
            texts = (query.text for query in self._queries)
            times = spent.renewed(texts).by_queries(judged_marks(self._queries))
            return ruled_by_judgments(comparison, times, spec.serving)

        def orders_of(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            by_text = {question_key(query.text): own[query.id] for query in self._queries}
            asked = {name: by_text.get(question_key(text), final) for name, text in queries.items()}
            tuned = self._searches.by(asked, queries, self._counted("searching: tuned"))
            return tuned, self._searches.serving(queries, self._counted("searching: serving"))

        log = feedback_of(self._data, spec.collection_key, spec.guards)
        seed = spec.seed % 2**32
        return ruled_by_clicks(comparison, log, orders_of, spent.by_clicks(), seed, spec.serving)

    def _counted(self, stage: str) -> Counted:
        begin, end = STAGES[stage]

        def counted(done: int, of: int) -> None:
            self._progress(stage, begin + (end - begin) * done / max(1, of))

        return counted


def configuration_of(choice: Choice, arms: tuple[str, ...]) -> RankingConfiguration:
    """The choice as a search is told of it."""
    others = {arm: ARMS[arm].weight for arm in arms if arm != SHARED}
    rest = sum(others.values())
    shares = {arm: (1 - choice.share) * (weight / rest) for arm, weight in others.items()}
    shares[SHARED] = choice.share
    weights = {arm: 1.0 if choice.rrf else round(shares[arm], _PLACES) for arm in arms}
    return RankingConfiguration(
        fusion="rrf" if choice.rrf else "weighted_sum",
        weights=weights,
        boost_scale=choice.setting.scale,
        depth=choice.setting.depth,
        by_query=dict(choice.by_query.traits) if choice.by_query else {},
    )


def _folds(
    comparison: Comparison,
    part: Sequence[int],
    by_part: Mapping[int, RankingConfiguration],
    queries: Sequence[JudgedQuery],
) -> tuple[Fold, ...]:
    of = {query.id: fold for query, fold in zip(queries, part, strict=True)}
    found: list[Fold] = []
    for fold, configuration in by_part.items():
        rows = [row for row, id in enumerate(comparison.judged) if of[id] == fold]
        before, after = (
            float(values[NDCG][rows].mean()) for values in (comparison.serving, comparison.tuned)
        )
        found.append(Fold(queries=len(rows), before=before, after=after, configuration=configuration))
    return tuple(found)


def _nothing(spec: TuningSpec, report: EvaluationReport, seconds: float) -> TuningResult:
    return TuningResult(
        evaluation=report,
        configuration=None,
        queries=len(spec.judgments),
        source="judgments" if spec.judgments else "clicks",
        reranker=spec.reranker,
        tune_s=seconds,
    )
