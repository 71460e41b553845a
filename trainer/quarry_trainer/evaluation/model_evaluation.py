"""Compares a re-ranker with what serves, on queries that it was not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ir_measures import nDCG

from quarry.clicks.log import ClickLog, read_clicks
from quarry.feedback.reading.guards import GuardPolicy
from quarry.feedback.tables import FILE_NAME
from quarry.models.blend import RERANKER_ALONE, Blend, read_blend
from quarry.models.calibration import read_calibration
from quarry.models.runtime.runner import Precision
from quarry.questions import make_question_key
from quarry.registry.evidence_use import EvidenceUse, read_decisions
from quarry.training.provenance import TrainingProvenance, join_provenances, read_provenance
from quarry.training.spec import EvaluationReport, EvaluationSpec, Metric, ModelRef, Subject
from quarry_trainer.data.judged_sample import CandidateSample
from quarry_trainer.data.live import Counted, Float64, LiveSearch, RankedQuery, open_search
from quarry_trainer.data.matching_passages import open_documents
from quarry_trainer.data.model_memory import Memory, with_memory
from quarry_trainer.data.training_data import mark_judged
from quarry_trainer.evaluation.calibrating import with_errors
from quarry_trainer.evaluation.click_evaluation import evaluate_clicks
from quarry_trainer.evaluation.resampling import Interval, estimate_mean_intervals
from quarry_trainer.evaluation.scoring import FUSED_ALONE, load_as_served, order_by_blend, score_ranked
from quarry_trainer.evaluation.searches import collect_clicked_documents, count_searches
from quarry_trainer.evaluation.slices import ALL, KNOWN, UNSEEN, make_slices
from quarry_trainer.evaluation.training_gate import (
    DEFAULT_POLICY,
    JudgmentEvidence,
    TrainingGatePolicy,
    choose_level,
    judge,
    list_cautions,
)
from quarry_trainer.measures import NDCG, Orders, Qrels, list_clusters, list_judged_queries, measure_per_query

LEAST_OF_SLICE = 5
"""Queries that a slice needs to be reported."""

Progress = Callable[[str, float], None]
"""Told the stage, and how far the whole job is, 0 to 1."""


def evaluate_models(spec: EvaluationSpec, folder: Path, progress: Progress) -> EvaluationReport:
    """Compares two models as the live server would serve them: by judgments if there are any, else by clicks.

    Queries that either of them was trained on are left out of what decides.

    The interval that decides is as wide as what trainings have spent makes it, the version's own left out:
    that was the same question. An evaluation spends nothing itself. It changes nothing that serves, and gives
    the same answer however often it is asked.

    Args:
        folder: of the job, in the data folder of its server.

    Raises:
        ModelError: a model cannot be loaded.
        UnavailableError: the server does not answer.
        CollectionNotFoundError: the collection was deleted meanwhile.
    """
    data = folder.resolve().parent.parent
    compared_with = spec.serving.name if spec.serving else ""
    memory = Memory(read_provenance(Path(spec.candidate.folder), spec.candidate.name), spec.collection)
    either = read_either(spec)
    spent_by_others = read_evidence_use(data, spec.collection).exclude(model=spec.candidate.name)
    log = read_displays(data, spec.collection_key, spec.guards)
    with open_search(data, spec.server, spec.collection, spec.collection_key) as search:
        if spec.judgments:
            deciding = [query for query in spec.judgments if not either.has_query(query.text)]
            kept_out = len(spec.judgments) - len(deciding)
            ranked, candidate, serving = _rank_and_score(
                {query.id: query.text for query in deciding}, search, spec, data, progress
            )
            qrels = {query.id: query.judgments for query in deciding}
            progress("comparing", _COMPARING)
            report = evaluate_ranked(
                ranked,
                qrels,
                candidate,
                serving,
                {query.id: memory.has_seen(query) for query in deciding},
                earlier_decisions=spent_by_others.renew_marks(q.text for q in deciding).count_by_queries(
                    mark_judged(deciding)
                ),
                kept_out=kept_out,
                compared_with=compared_with,
                frequency=count_frequency(log, ranked),
                exact=_score_exact(spec, data, ranked),
            )
            report = with_errors(
                report,
                read_calibration(Path(spec.candidate.folder)),
                CandidateSample.from_ranked(
                    ranked,
                    candidate.scores,
                    candidate.blend,
                    deciding,
                    {query.id: memory.has_seen(query) for query in deciding},
                ),
                search.ranking if candidate.blend.fused else None,
            )
            return with_memory(report, either, kept_out)

        def order_queries(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            ranked, candidate, serving = _rank_and_score(queries, search, spec, data, progress)
            progress("comparing", _COMPARING)
            return order_by_scores(ranked, candidate), order_by_scores(
                ranked, serving or score_by_fusion(ranked)
            )

        unread = [text for text in log.texts if not either.has_query(text)]
        kept_out, clicked = len(log.texts) - len(unread), collect_clicked_documents(log)
        report = evaluate_clicks(
            log,
            order_queries,
            "serving" if spec.serving else "fused",
            earlier_decisions=spent_by_others.count_by_clicks(),
            seed=spec.seed,
            compared_with=compared_with,
            queries=unread if kept_out else None,
            unseen=[query for query, documents in clicked.items() if memory.is_new(documents)],
        )
        return with_memory(report, either, kept_out)


def read_either(spec: EvaluationSpec) -> TrainingProvenance:
    """Reads what either model was trained on, which decides for neither of them. Raises ModelError."""
    return join_provenances(read_provenance(Path(model.folder), model.name) for model in _list_models(spec))


_SEARCHED, _COMPARING = 0.3, 0.95
"""How far a job is when all queries are searched, and when all candidates are scored."""


class Scored(NamedTuple):
    """The scores of a model for ranked queries.

    Attributes:
        scores: of each query's candidates, as ``score_ranked`` gives them.
        blend: how they order.
    """

    scores: Sequence[Float64]
    blend: Blend = RERANKER_ALONE


def evaluate_ranked(
    ranked: Sequence[RankedQuery],
    qrels: Qrels,
    candidate: Scored,
    serving: Scored | None = None,
    known: Mapping[str, bool] | None = None,
    *,
    earlier_decisions: int = 0,
    kept_out: int = 0,
    source: str = "judgments",
    compared_with: str = "",
    frequency: Mapping[str, int] | None = None,
    exact: Scored | None = None,
    policy: TrainingGatePolicy = DEFAULT_POLICY,
) -> EvaluationReport:
    """Measures candidate, serving and fused orders of held-out queries, and judges the candidate.

    Intervals are paired over queries, those with the same relevant documents drawn together. ``metrics``
    have 95 % intervals; the one that decides is wider once evidence is ``earlier_decisions``, and in
    ``details``.

    Args:
        ranked: held-out queries. Those that ``qrels`` knows no relevant document of are left out.
        serving: None: the candidate is compared with the fused order.
        known: whether training saw a relevant document, by query; see ``Division.knows``.
        earlier_decisions: verdicts that these queries have given before.
        kept_out: queries that do not decide, since a model was trained on them.
        compared_with: name of what serves.
        frequency: how often each query is asked, by id.
        exact: the candidate in float32, if it serves in int8.
    """
    grades = {query.query_id: qrels.get(query.query_id, {}) for query in ranked}
    judged = list_judged_queries(grades)
    subjects: dict[Subject, Scored] = {"candidate": candidate, "fused": score_by_fusion(ranked)}
    if serving is not None:
        subjects["serving"] = serving
    scored = [*subjects.values(), *([exact] if exact else [])]
    finite = all(bool(np.isfinite(scores).all()) for one in scored for scores in one.scores)
    if not (judged and finite):
        verdict, advice = judge(
            JudgmentEvidence(len(judged), 0, {}, kept_out=kept_out, finite=finite), earlier_decisions, policy
        )
        return EvaluationReport(
            verdict=verdict,
            advice=advice,
            source=source,
            queries=len(judged),
            compared_with=compared_with,
        )
    orders = {name: order_by_scores(ranked, one) for name, one in subjects.items()}
    values = {name: measure_per_query(one, grades) for name, one in orders.items()}
    base: Subject = "fused" if serving is None else "serving"
    values["difference"] = {m: v - values[base][m] for m, v in values["candidate"].items()}
    groups = {ALL: frozenset(judged), **make_slices(ranked, grades, known, frequency)}
    metrics = _make_metrics(values, judged, groups, grades)
    differences = {
        m.slice: Interval(m.value, m.lower, m.upper)
        for m in metrics
        if m.measure == NDCG and m.subject == "difference" and m.slice in (ALL, UNSEEN)
    }
    unseen = len(groups.get(UNSEEN, frozenset()) & set(judged))
    found = sum(any(grades[q.query_id].get(d, 0) > 0 for d in q.documents) for q in ranked)
    changed = any(orders["candidate"][id] != orders[base][id] for id in judged)
    quantization = _measure_quantization(ranked, exact, values["candidate"][NDCG], grades)
    evidence = JudgmentEvidence(
        len(judged), found, differences, unseen, kept_out, changed, quantization=quantization
    )
    verdict, advice = judge(evidence, earlier_decisions, policy)
    return EvaluationReport(
        verdict=verdict,
        advice=advice,
        cautions=list_cautions(verdict, unseen, policy, quantization),
        metrics=metrics,
        source=source,
        queries=len(judged),
        compared_with=compared_with,
        details=_make_details(
            evidence, earlier_decisions, len(ranked), list_clusters(judged, grades), candidate.blend
        ),
    )


def _measure_quantization(
    ranked: Sequence[RankedQuery], exact: Scored | None, served: Float64, grades: Qrels
) -> Interval | None:
    """Measures, in nDCG@10, what serves less the same in float32."""
    if exact is None:
        return None
    lost = served - measure_per_query(order_by_scores(ranked, exact), grades, [nDCG @ 10])[NDCG]
    return estimate_mean_intervals(lost[:, None], list_clusters(list_judged_queries(grades), grades))[0]


def _score_exact(spec: EvaluationSpec, data: Path, ranked: Sequence[RankedQuery]) -> Scored | None:
    """Scores the candidate in float32, if it serves in int8."""
    return score_model(spec.candidate, data, ranked) if spec.precision == "int8" else None


def _rank_and_score(
    queries: Mapping[str, str], search: LiveSearch, spec: EvaluationSpec, data: Path, progress: Progress
) -> tuple[list[RankedQuery], Scored, Scored | None]:
    """Ranks candidates of each query, and scores them by both models."""
    ranked = search.rank(queries, counted=_make_stage_counter(progress, "searching", 0.0, _SEARCHED))
    models = _list_models(spec)
    share = (_COMPARING - _SEARCHED) / len(models)
    found = [
        score_model(
            ref,
            data,
            ranked,
            _make_stage_counter(progress, "scoring", _SEARCHED + n * share, share),
            spec.precision,
        )
        for n, ref in enumerate(models)
    ]
    return ranked, found[0], found[1] if spec.serving else None


def _list_models(spec: EvaluationSpec) -> list[ModelRef]:
    """Lists the candidate, and what it is compared with if that is a model."""
    return [spec.candidate, *([spec.serving] if spec.serving else [])]


def score_model(
    model: ModelRef,
    data: Path,
    ranked: Sequence[RankedQuery],
    counted: Counted | None = None,
    precision: Precision = "fp32",
) -> Scored:
    """Scores ranked queries by a model that lies in a folder, with the blend that lies there.

    Raises:
        ModelError: it cannot be loaded, or a score is not finite.
    """
    folder = Path(model.folder)
    loaded = load_as_served(folder, data, precision)
    return Scored(score_ranked(loaded, ranked, counted), read_blend(folder))


def _make_stage_counter(progress: Progress, stage: str, start: float, share: float) -> Counted:
    def report_count(done: int, of: int) -> None:
        progress(stage, start + share * done / max(1, of))

    return report_count


def read_displays(data: Path, key: int, guards: GuardPolicy) -> ClickLog:
    """Reads all clicks of a collection that the guards leave, of searches that typed something."""
    return read_clicks(data / FILE_NAME, key, guards, typed=True)


def count_frequency(log: ClickLog, ranked: Sequence[RankedQuery]) -> dict[str, int] | None:
    """Counts how often each query was asked, by id; None if none of them was."""
    asked = count_searches(log)
    found = {query.query_id: asked.get(make_question_key(query.text), 0) for query in ranked}
    return found if any(found.values()) else None


def read_evidence_use(data: Path, collection: str) -> EvidenceUse:
    """Reads what has decided on versions of a collection of the server whose data folder this is."""
    with open_documents(data) as database:
        return EvidenceUse(database.read(lambda connection: read_decisions(connection, collection)))


def score_by_fusion(ranked: Sequence[RankedQuery]) -> Scored:
    return Scored([np.zeros(len(query)) for query in ranked], FUSED_ALONE)


def order_by_scores(ranked: Sequence[RankedQuery], scored: Scored) -> dict[str, tuple[str, ...]]:
    return {
        query.query_id: order_by_blend(query, scores, scored.blend)
        for query, scores in zip(ranked, scored.scores, strict=True)
    }


def _make_metrics(
    values: Mapping[Subject, Mapping[str, Float64]],
    judged: Sequence[str],
    groups: Mapping[str, frozenset[str]],
    grades: Qrels,
) -> tuple[Metric, ...]:
    """Makes all measures of the slices that the gate and people look at first, nDCG@10 of the others."""
    clusters = list_clusters(judged, grades)
    found: list[Metric] = []
    for name, ids in groups.items():
        rows = [place for place, id in enumerate(judged) if id in ids]
        main = name in (ALL, KNOWN, UNSEEN)
        if not rows or (not main and len(rows) < LEAST_OF_SLICE):
            continue
        own = [clusters[row] for row in rows]
        measures = list(values["difference"]) if main else [NDCG]
        named = [(subject, measure) for subject in values for measure in measures]
        table = np.column_stack([values[subject][measure][rows] for subject, measure in named])
        for (subject, measure), interval in zip(named, estimate_mean_intervals(table, own), strict=True):
            found.append(_make_metric(measure, name, subject, interval, len(rows)))
    return tuple(found)


def _make_metric(measure: str, slice: str, subject: Subject, interval: Interval, queries: int) -> Metric:
    lower = interval.lower if subject == "difference" else max(0.0, interval.lower)
    return Metric(
        measure=measure,
        slice=slice,
        subject=subject,
        value=interval.value,
        lower=lower,
        upper=interval.upper,
        queries=queries,
    )


def _make_details(
    evidence: JudgmentEvidence,
    earlier_decisions: int,
    ranked: int,
    clusters: Sequence[frozenset[str]],
    blend: Blend,
) -> dict[str, object]:
    level, rounded = choose_level(earlier_decisions), evidence.quantization
    sure = {name: interval.widen(level) for name, interval in evidence.differences.items()}
    return {
        "decides": {
            "level": level,
            "spent": earlier_decisions,
            "differences": {name: asdict(interval) for name, interval in sure.items()},
        },
        "queries_without_relevant_document": ranked - evidence.queries,
        "queries_without_relevant_candidate": evidence.queries - evidence.found,
        "unseen_queries": evidence.unseen,
        "clusters": len(set(clusters)),
        "blend": blend.model_dump(),
        **({"quantization": asdict(rounded)} if rounded else {}),
    }
