"""Makes a base re-ranker of documents alone, before there is any click.

Queries are made of the documents, negatives are what the live first stage finds for them: from easy ones, far
down in its list, to hard ones. What stands near the top is often an answer too, so only candidates that score
clearly below the document itself are taken.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from quarry.documents import log
from quarry.documents.catalog import read_collection_by_key
from quarry.documents.passages import SourceText
from quarry.documents.vectors import SourceReader
from quarry.documents.view import make_view
from quarry.jobs.child import ProgressReporter
from quarry.models.blend import write_blend
from quarry.training.folders import MODEL, find_work, locate_data
from quarry.training.spec import MAX_EPOCH_STEPS, TrainingResult, TrainingSpec
from quarry_trainer.data.dataset import BadExamplesError, TextGroup
from quarry_trainer.data.live import DEPTH, RankedQuery, open_search
from quarry_trainer.data.matching_passages import open_documents
from quarry_trainer.data.model_memory import read_base_provenance
from quarry_trainer.data.pseudo_queries import PseudoQuery, drop_title, make_pseudo_queries
from quarry_trainer.data.training_data import rank_once
from quarry_trainer.evaluation.judgment_evaluation import evaluate_ranked
from quarry_trainer.evaluation.orders import Scored
from quarry_trainer.evaluation.scoring import score_ranked
from quarry_trainer.learning.listwise import GROUP_SIZE
from quarry_trainer.trainings.blending import choose_unproven_blend
from quarry_trainer.trainings.reranker import RerankerRecipe
from quarry_trainer.trainings.results import make_result, refuse
from quarry_trainer.trainings.weights import train_weights

HELD_OUT, HELD_OUT_SHARE = 200, 0.15
"""Pseudo-queries that say what came of it, at most."""
UNPROVEN = "it was measured by queries made of documents: hold it to judged queries before it serves"
BASE_RATE = 1e-4
"""Lower than for clicks: a base is to stay near the encoder where it has nothing to learn."""
EASY_FROM, HARD_FROM = 15, 1
"""Places in the first stage's list, from 0, from which negatives are taken: at first, and in the end."""
KEPT_NEGATIVES = 15
CLEARLY_BELOW = 0.97
"""Share of the document's own fused score that a negative may have at most."""


def pretrain_reranker(spec: TrainingSpec, folder: Path, progress: ProgressReporter) -> TrainingResult:
    """Trains a base re-ranker as ``spec.document_pretraining`` says.

    Raises as ``quarry_trainer.trainings.training_run.train``.
    """
    started = time.monotonic()
    try:
        return _pretrain(spec, folder, progress, started)
    except BadExamplesError as error:
        return refuse(spec, error, started)


def _pretrain(spec: TrainingSpec, folder: Path, progress: ProgressReporter, started: float) -> TrainingResult:
    data, work = locate_data(folder), find_work(folder, spec)
    recipe = RerankerRecipe(spec, data, work)
    held, groups = _make_training_data(spec, data, work, progress)
    prepared = recipe.prepare(groups, BASE_RATE)
    read = min(prepared.steps, MAX_EPOCH_STEPS) * prepared.groups_a_step
    course = plan_course(prepared.groups, read, spec.seed)

    def on_step(share: float, details: Mapping[str, float]) -> None:
        progress("training", 0.25 + 0.65 * share, details)

    loop = train_weights(prepared, spec.seed, work, on_step, course=course)
    progress("evaluating", 0.9)
    model = folder / MODEL
    prepared.save(model)
    # Documents that were all read alike, for queries that nobody asked, make none of them known.
    read_base_provenance(spec).write(model)
    blend = choose_unproven_blend(prepared.blend)
    write_blend(model, blend)
    scores = score_ranked(prepared.served.load(model), [query for query, _ in held])
    report = evaluate_ranked(
        [query for query, _ in held],
        {query.query_id: {document: 1} for query, document in held},
        Scored(scores, blend),
        source="examples",
    )
    # Whether titles find their texts proves nothing of what people ask.
    unproven = report.model_copy(update={"verdict": "INSUFFICIENT_DATA", "advice": (UNPROVEN,)})
    return make_result(spec, unproven, started, model, loop, blend)


Held = list[tuple[RankedQuery, str]]
"""Held-out pseudo-queries, each with the document that answers it."""


def _make_training_data(
    spec: TrainingSpec, data: Path, work: Path, progress: ProgressReporter
) -> tuple[Held, list[TextGroup]]:
    """Raises BadExamplesError if the documents make no queries."""
    assert spec.document_pretraining is not None  # noqa: S101  the job was dispatched by it
    held: Held = []
    groups: list[TextGroup] = []
    collections = spec.document_pretraining.collections
    each = spec.document_pretraining.max_queries // len(collections) + 1
    for number, (name, key) in enumerate(collections):
        sources = _read_sources(data, key)
        queries = make_pseudo_queries(sources.items(), each, spec.seed)

        def report_count(done: int, of: int, number: int = number) -> None:
            progress("candidates", 0.25 * (number + done / of) / len(collections))

        place = work / name
        place.mkdir(exist_ok=True)
        texts = {f"{name}/{n}": query.text for n, query in enumerate(queries)}
        with open_search(data, spec.server, name, key) as live:
            ranked = rank_once(live, texts, DEPTH, place, report_count)
        bare = [_strip_titles(ranked[f"{name}/{n}"], query, sources) for n, query in enumerate(queries)]
        own = min(HELD_OUT // len(collections), round(HELD_OUT_SHARE * len(queries)))
        held += [(one, query.document) for one, query in zip(bare[:own], queries[:own], strict=True)]
        groups += _make_groups(bare[own:], queries[own:])
    if not groups:
        raise BadExamplesError("the documents have no titles, headings or sentences to make queries of")
    return held, groups


def plan_course(groups: Sequence[TextGroup], wanted: int, seed: int) -> list[TextGroup]:
    """Plans ``wanted`` groups with negatives from easy to hard, each group as often as any other, drawn
    anew."""
    random = np.random.default_rng(seed)
    passes = [random.permutation(len(groups)) for _ in range(-(-wanted // len(groups)))]
    order = np.concatenate(passes)[:wanted]
    return [_choose_by_hardness(groups[place], n / wanted) for n, place in enumerate(order)]


def _read_sources(data: Path, key: int) -> dict[str, SourceText]:
    """Reads what the encoder reads of each document, by id."""
    with open_documents(data) as documents, documents.engine.connect() as connection:
        collection = read_collection_by_key(connection, key)
        schema = collection.settings.schema
        reader, view = SourceReader(schema), make_view(schema, collection.mixed_fields)
        scanned = log.scan_documents(connection, key)
        return {document.id: reader.read(view(document.fields)) for document, _ in scanned}


def _strip_titles(ranked: RankedQuery, query: PseudoQuery, sources: Mapping[str, SourceText]) -> RankedQuery:
    """Strips titles from candidates; the passage that answers is the one that the query stood above."""
    passages = tuple(
        query.passage if id == query.document else drop_title(passage, _read_title(sources, id))
        for id, passage in zip(ranked.documents, ranked.passages, strict=True)
    )
    return replace(ranked, passages=passages)


def _read_title(sources: Mapping[str, SourceText], id: str) -> str:
    return sources[id].title if id in sources else ""


def _make_groups(ranked: Sequence[RankedQuery], queries: Sequence[PseudoQuery]) -> list[TextGroup]:
    """Makes groups with all candidates that are clearly below the document itself, best first."""
    made: list[TextGroup] = []
    for one, query in zip(ranked, queries, strict=True):
        if query.document not in one.documents:
            continue
        own = one.documents.index(query.document)
        limit = CLEARLY_BELOW * float(one.fused[own])
        kept = [n for n in range(len(one)) if n != own and one.fused[n] <= limit and one.passages[n].strip()]
        if len(kept) < GROUP_SIZE - 1:
            continue
        rows = [own, *kept]
        made.append(
            TextGroup(
                one.text,
                tuple(one.documents[n] for n in rows),
                tuple(one.passages[n] for n in rows),
                tuple(float(one.fused[n]) for n in rows),
                (True, *(False for _ in kept)),
                tuple(1.0 for _ in rows),
            )
        )
    return made


def _choose_by_hardness(group: TextGroup, share: float) -> TextGroup:
    """Chooses the positive and some negatives: easy ones where ``share``, of the course of training, is
    near 0."""
    others = len(group.passages) - 1
    first = round(EASY_FROM + share * (HARD_FROM - EASY_FROM))
    first = max(1, min(first, others - GROUP_SIZE + 2))
    rows = [0, *range(first, min(others + 1, first + KEPT_NEGATIVES))]
    return group.take(rows)
