"""One tuning from queries to a configuration and a verdict on it, by cross-validation."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from quarry.errors import QuarryError
from quarry.jobs.child import ProgressReporter
from quarry.mining.spec import JudgedQuery
from quarry.questions import make_question_key
from quarry.ranking.ranking_configuration import RankingConfiguration
from quarry.ranking.weighting import SHARED
from quarry.retrieval.registry import ARMS
from quarry.training.examples_limits import LEAST_DECIDING
from quarry.training.folders import locate_data
from quarry.training.hashes import pack_marks
from quarry.training.spec import EvaluationReport, Fold, TuningResult, TuningSpec
from quarry_trainer.data.absent_documents import add_absent, find_absent_documents
from quarry_trainer.data.contradictions import add_disputed
from quarry_trainer.data.dataset import BadExamplesError
from quarry_trainer.data.entities import find_entities, judge_by_entity, list_relevant
from quarry_trainer.data.linked_queries import number_components
from quarry_trainer.data.matching_passages import read_titles
from quarry_trainer.data.query_split import mark_judged
from quarry_trainer.evaluation.evidence import read_displays, read_evidence_use
from quarry_trainer.loop.calls import ServerCalls
from quarry_trainer.measures import NDCG, Orders
from quarry_trainer.tuning.advice import with_advice
from quarry_trainer.tuning.fitting import Gains, MergeChoice, Setting, fit
from quarry_trainer.tuning.folds import split_folds
from quarry_trainer.tuning.live_lists import SCALES, Counted, LiveLists
from quarry_trainer.tuning.searches import Searches
from quarry_trainer.tuning.tuning_data import TuningData, draw_queries, keep_judged, read_chosen
from quarry_trainer.tuning.verdict import Comparison, rule_by_clicks, rule_by_judgments

STAGES = {"lists": (0.1, 0.6), "searching: serving": (0.6, 0.8), "searching: tuned": (0.8, 1.0)}
"""Where each stage begins and ends in the progress of the whole."""
LEAST_QUERIES = LEAST_DECIDING
"""With a relevant document, of fewer nothing is fitted: the gate would not look at them."""
_PLACES = 6


def tune_ranking(spec: TuningSpec, folder: Path, progress: ProgressReporter) -> TuningResult:
    """Fits how the collection's arms are merged, and says whether people would see better orders.

    Each part of the queries is merged by what was fitted to the others, and searched as people search,
    re-ranking and all; that decides. What is registered was fitted to all of them.

    Args:
        folder: of the job, in the data folder of its server.

    Raises:
        QuarryError: the server does not answer, or something else serves meanwhile.
    """
    started, data = time.monotonic(), locate_data(folder)
    with ServerCalls(spec.server) as server:
        try:
            progress("positives", 0.0)
            tuning_queries = (
                keep_judged(spec.judgments) if spec.judgments else read_chosen(server, spec, data, folder)
            )
            if len(tuning_queries.queries) < LEAST_QUERIES:
                raise TooFewError(len(tuning_queries.queries))
            return _Tuning(spec, draw_queries(tuning_queries, spec.seed), server, data, progress).run(started)
        except (BadExamplesError, TooFewError) as error:
            report = EvaluationReport(
                verdict="BAD_DATA" if isinstance(error, BadExamplesError) else "INSUFFICIENT_DATA",
                advice=(str(error),),
                source="judgments" if spec.judgments else "clicks",
                compared_with=spec.serving,
            )
            return _make_empty_result(spec, report, time.monotonic() - started)


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
        self,
        spec: TuningSpec,
        tuning_queries: TuningData,
        server: ServerCalls,
        data: Path,
        progress: ProgressReporter,
    ) -> None:
        self._spec, self._tuning_queries, self._data, self._progress = spec, tuning_queries, data, progress
        self._lists = LiveLists(server, spec.collection, spec.arms)
        self._searches = Searches(server, spec)
        self._queries = tuning_queries.queries
        titles = partial(read_titles, data, spec.collection_key)
        self._entities = find_entities(list_relevant(self._queries), titles)
        self._components = number_components(judge_by_entity(self._queries, self._entities))
        self._absent = find_absent_documents(self._queries, titles)

    def run(self, started: float) -> TuningResult:
        scales = SCALES if self._spec.boosts and any(ARMS[arm].boosts for arm in self._spec.arms) else (1.0,)
        gains = self._lists.measure_gains(self._queries, scales, self._make_counter("lists"))
        final = make_configuration(fit(gains, self._components), self._spec.arms)
        by_part, part = self._fit_by_part(gains)
        texts = {query.id: query.text for query in self._queries}
        own = {query.id: by_part[fold] for query, fold in zip(self._queries, part, strict=True)}
        serving = self._searches.order_as_served(texts, self._make_counter("searching: serving"))
        tuned = self._searches.order_by_choice(own, texts, self._make_counter("searching: tuned"))
        comparison = Comparison.search(self._queries, tuned, serving, self._entities)
        report = add_disputed(self._rule(comparison, own, final), self._tuning_queries.disputed)
        report = add_absent(with_advice(report, self._spec), self._absent, self._queries)
        details = {**report.details, "configuration": final.model_dump(mode="json")}
        tuning_queries = self._tuning_queries
        return TuningResult(
            evaluation=report.model_copy(update={"details": details}),
            configuration=final,
            queries=len(self._queries),
            source=tuning_queries.source,
            folds=_make_folds(comparison, part, by_part, self._queries),
            data_hash=tuning_queries.data_hash,
            reranker=self._spec.reranker,
            simulated=tuning_queries.simulated,
            feedback_start_us=tuning_queries.feedback_us and tuning_queries.feedback_us[0],
            feedback_end_us=tuning_queries.feedback_us and tuning_queries.feedback_us[1],
            attempt=self._spec.name,
            decided_by=pack_marks(mark_judged(self._queries)) if tuning_queries.source == "judgments" else "",
            tune_s=time.monotonic() - started,
        )

    def _fit_by_part(
        self, gains: Mapping[Setting, Gains]
    ) -> tuple[dict[int, RankingConfiguration], list[int]]:
        """Fits each part by the other ones.

        Returns the configurations by part, and the part of each query.
        """
        part = split_folds(self._components, self._spec.seed)
        found: dict[int, RankingConfiguration] = {}
        for fold in sorted(set(part)):
            others = np.flatnonzero(np.array(part) != fold)
            some = {setting: own.take(others) for setting, own in gains.items()}
            choice = fit(some, [self._components[n] for n in others]) if len(others) else MergeChoice()
            found[fold] = make_configuration(choice, self._spec.arms)
        return found, part

    def _rule(
        self, comparison: Comparison, own: Mapping[str, RankingConfiguration], final: RankingConfiguration
    ) -> EvaluationReport:
        spec, earlier_decisions = self._spec, read_evidence_use(self._data, self._spec.collection)
        if self._tuning_queries.source == "judgments":
            texts = (query.text for query in self._queries)
            times = earlier_decisions.renew_marks(texts).count_by_queries(mark_judged(self._queries))
            return rule_by_judgments(comparison, times, spec.serving)

        def order_queries(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            by_text = {make_question_key(query.text): own[query.id] for query in self._queries}
            asked = {name: by_text.get(make_question_key(text), final) for name, text in queries.items()}
            tuned = self._searches.order_by_choice(asked, queries, self._make_counter("searching: tuned"))
            return tuned, self._searches.order_as_served(queries, self._make_counter("searching: serving"))

        log = read_displays(self._data, spec.collection_key, spec.guards)
        seed = spec.seed % 2**32
        return rule_by_clicks(
            comparison, log, order_queries, earlier_decisions.count_by_clicks(), seed, spec.serving
        )

    def _make_counter(self, stage: str) -> Counted:
        begin, end = STAGES[stage]

        def report_count(done: int, of: int) -> None:
            self._progress(stage, begin + (end - begin) * done / max(1, of))

        return report_count


def make_configuration(choice: MergeChoice, arms: tuple[str, ...]) -> RankingConfiguration:
    """Makes a configuration of the choice, as a search is told of it."""
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


def _make_folds(
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


def _make_empty_result(spec: TuningSpec, report: EvaluationReport, seconds: float) -> TuningResult:
    return TuningResult(
        evaluation=report,
        configuration=None,
        queries=len(spec.judgments),
        source="judgments" if spec.judgments else "clicks",
        reranker=spec.reranker,
        tune_s=seconds,
    )
