"""Compares a version with what serves, on queries that neither was trained on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quarry.models.blend import read_blend
from quarry.models.calibration import read_calibration
from quarry.models.runtime.runner import Precision
from quarry.training.folders import locate_data
from quarry.training.provenance import TrainingProvenance, join_provenances, read_provenance
from quarry.training.spec import EvaluationReport, EvaluationSpec, ModelRef
from quarry_trainer.data.absent_documents import add_absent, find_absent_documents
from quarry_trainer.data.contradictions import add_disputed, settle_queries
from quarry_trainer.data.entities import find_entities, list_relevant
from quarry_trainer.data.judged_sample import CandidateSample
from quarry_trainer.data.live import Counted, LiveSearch, RankedQuery, open_search
from quarry_trainer.data.model_memory import Memory
from quarry_trainer.data.query_split import mark_judged
from quarry_trainer.evaluation.calibrating import with_errors
from quarry_trainer.evaluation.click_evaluation import evaluate_clicks
from quarry_trainer.evaluation.evidence import count_frequency, read_displays, read_evidence_use
from quarry_trainer.evaluation.judgment_evaluation import evaluate_ranked
from quarry_trainer.evaluation.lineage import add_lineage
from quarry_trainer.evaluation.orders import Scored, order_by_scores, score_by_fusion
from quarry_trainer.evaluation.scoring import load_as_served, score_ranked
from quarry_trainer.evaluation.searches import collect_clicked_documents
from quarry_trainer.measures import Orders

Progress = Callable[[str, float], None]
"""Told the stage, and how far the whole job is, 0 to 1."""


def evaluate_models(spec: EvaluationSpec, folder: Path, progress: Progress) -> EvaluationReport:
    """Compares two models as the live server would serve them: by judgments if there are any, else by clicks.

    Queries that either of them was trained on are left out of what decides.

    The interval that decides is as wide as earlier verdicts make it, the version's own left out:
    that was the same question. An evaluation spends nothing itself. It changes nothing that serves, and gives
    the same answer however often it is asked.

    Args:
        folder: of the job, in the data folder of its server.

    Raises:
        ModelError: a model cannot be loaded.
        UnavailableError: the server does not answer.
        CollectionNotFoundError: the collection was deleted meanwhile.
    """
    data = locate_data(folder)
    compared_with = spec.serving.name if spec.serving else ""
    memory = Memory(read_provenance(Path(spec.candidate.folder), spec.candidate.name), spec.collection)
    either = read_either(spec)
    decided_by_others = read_evidence_use(data, spec.collection).exclude(model=spec.candidate.name)
    log = read_displays(data, spec.collection_key, spec.guards)
    with open_search(data, spec.server, spec.collection, spec.collection_key) as search:
        if spec.judgments:
            judgments, disputed = settle_queries(spec.judgments)
            deciding = [query for query in judgments if not either.has_query(query.text)]
            entities = find_entities(list_relevant(deciding), search.titles)
            known = {query.id: memory.has_seen(query, entities) for query in deciding}
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
                known,
                earlier_decisions=decided_by_others.renew_marks(q.text for q in deciding).count_by_queries(
                    mark_judged(deciding)
                ),
                kept_out=kept_out,
                compared_with=compared_with,
                frequency=count_frequency(log, ranked),
                exact=_score_exact(spec, data, ranked),
                entities=entities,
            )
            report = with_errors(
                report,
                read_calibration(Path(spec.candidate.folder)),
                CandidateSample.from_ranked(
                    ranked,
                    candidate.scores,
                    candidate.blend,
                    deciding,
                    known,
                    entities=entities,
                ),
                search.ranking if candidate.blend.fused else None,
            )
            report = add_absent(report, find_absent_documents(deciding, search.titles), deciding)
            return add_disputed(add_lineage(report, either, kept_out), disputed)

        def order_queries(queries: Mapping[str, str]) -> tuple[Orders, Orders]:
            ranked, candidate, serving = _rank_and_score(queries, search, spec, data, progress)
            progress("comparing", _COMPARING)
            return order_by_scores(ranked, candidate), order_by_scores(
                ranked, serving or score_by_fusion(ranked)
            )

        unread = [text for text in log.texts if not either.has_query(text)]
        kept_out, clicked = len(log.texts) - len(unread), collect_clicked_documents(log)
        entities = find_entities((id for documents in clicked.values() for id in documents), search.titles)
        report = evaluate_clicks(
            log,
            order_queries,
            "serving" if spec.serving else "fused",
            earlier_decisions=decided_by_others.count_by_clicks(),
            seed=spec.seed,
            compared_with=compared_with,
            queries=unread if kept_out else None,
            unseen=[query for query, documents in clicked.items() if memory.is_new(documents, entities)],
        )
        return add_lineage(report, either, kept_out)


def read_either(spec: EvaluationSpec) -> TrainingProvenance:
    """Reads what either model was trained on, which decides for neither of them. Raises ModelError."""
    return join_provenances(read_provenance(Path(model.folder), model.name) for model in _list_models(spec))


_SEARCHED, _COMPARING = 0.3, 0.95
"""How far a job is when all queries are searched, and when all candidates are scored."""


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
