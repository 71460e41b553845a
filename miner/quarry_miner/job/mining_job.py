"""Makes one mining set: reads what there is, mines what is asked, writes rows and report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from quarry.documents.catalog import Collection
from quarry.documents.view import make_view
from quarry.errors import UnavailableError
from quarry.jobs.child import ProgressReporter
from quarry.jobs.files import write_bytes, write_json, write_model
from quarry.jobs.folders import WORK
from quarry.mining.sets import EXAMPLES, FOLDER, PAGE, REPORT, SUMMARY, WorkMark
from quarry.mining.spec import MiningSpec
from quarry.questions import make_question_key
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.logs import Logs, compute_versions_digest, open_logs
from quarry_miner.evidence.positives import Positives, join_positives
from quarry_miner.job.bases import compute_basis_digest, get_basis, read_basis, write_basis
from quarry_miner.job.click_learning import LearnedFromClicks, learn
from quarry_miner.job.resources import list_versions, open_materials
from quarry_miner.job.task_builder import assemble
from quarry_miner.members.live_arm import LiveArm
from quarry_miner.members.live_pool import LivePool
from quarry_miner.mining.earlier_set import EarlierSet, Lineage, find_latest, write_lineage
from quarry_miner.mining.example_tables import write_set
from quarry_miner.mining.fingerprints import compute_scope
from quarry_miner.mining.incremental import IncrementalMining, NegativeChoice
from quarry_miner.mining.mining import check_needs, read_parameters
from quarry_miner.mining.task import MiningTask
from quarry_miner.mining.threshold_calibration import Calibrated, calibrate
from quarry_miner.mining.work import NOT_OF_THE_RESULT, RULES, Work, hash_data
from quarry_miner.presets.base import Preset
from quarry_miner.presets.registry import make_preset
from quarry_miner.report.false_negative_rows import FalseNegativeRows
from quarry_miner.report.false_negatives import Audit
from quarry_miner.report.mining_page import render_page
from quarry_miner.report.report import MinedFacts, make_report

logger = logging.getLogger(__name__)

MINING_STARTS, MINING_ENDS = 0.2, 0.95
"""Shares of the progress."""
TRIES = 2
"""For a set that is made from one state of the collection."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The sources of a set, read at one time."""

    collection: Collection
    corpus: Corpus
    versions: Mapping[str, int]
    learned: LearnedFromClicks | None
    positives: Positives


@dataclass(frozen=True, slots=True, eq=False)
class MiningOutcome:
    """The blocks that mining has left in ``work``, and what is known beside the rows."""

    work: Work
    facts: MinedFacts
    lineage: Lineage


class DocumentsChangedError(UnavailableError):
    """Documents were written, or indexed anew, while they were mined, each time again."""

    reason = "DOCUMENTS_CHANGED"

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"the documents of {collection!r} keep changing while they are mined, and a set comes from one "
            "state of them: mine when fewer are written",
            collection=collection,
        )


def make_set(spec: MiningSpec, folder: Path, progress: ProgressReporter) -> None:
    """Fills ``folder``; the summary comes last. All rows come from one state of the documents: if they change
    meanwhile, everything is mined again, once.

    Raises:
        DocumentsChangedError: they have changed again.
        QuarryError: for what cannot be done.
    """
    data = folder.resolve().parent.parent
    preset = make_preset(spec.preset, spec.parameters)
    with open_logs(data) as logs:
        for _ in range(TRIES):
            inputs = _read(spec, logs, progress)
            state = _read_state(inputs.collection)

            def check(state: tuple[int, str] = state) -> None:
                if _read_state(logs.read_collection(spec.collection_key)) != state:
                    raise DocumentsChangedError(spec.collection)

            try:
                outcome = _mine(spec, data, preset, inputs, folder, progress, check)
                check()
                break
            except DocumentsChangedError as error:
                changed = error
                logger.warning("documents have changed: mining begins anew")
        else:
            raise changed
        progress("report", MINING_ENDS)
        _write(spec, folder, inputs, outcome)
    outcome.work.remove()


def _read_state(collection: Collection) -> tuple[int, str]:
    """Reads the state of documents and index: every write counts up, and no number comes again."""
    return collection.last_sequence, collection.generation


def _read(spec: MiningSpec, logs: Logs, progress: ProgressReporter) -> Inputs:
    key = spec.collection_key
    collection = logs.read_collection(key)
    learned = None
    if spec.feedback is not None:
        progress("feedback", 0.0)
        clicks = logs.read_clicks(key, spec.guards, spec.feedback.start_us, spec.feedback.end_us)
        learned = learn(clicks, spec.feedback)
    progress("documents", 0.05)
    versions = logs.read_versions(key)
    schema = collection.settings.schema
    corpus = Corpus.from_log(logs.documents, key, schema, make_view(schema, collection.mixed_fields))
    positives = join_positives(spec.queries, learned.positives if learned else (), corpus)
    return Inputs(collection, corpus, versions, learned, positives)


def _mine(
    spec: MiningSpec,
    data: Path,
    preset: Preset,
    inputs: Inputs,
    folder: Path,
    progress: ProgressReporter,
    check: Callable[[], None],
) -> MiningOutcome:
    """Mines all blocks; calls ``check`` after each, which raises if documents have changed."""
    if not inputs.positives.queries:
        return _make_empty_set(spec, data, preset, inputs)
    progress("members", 0.1)
    learned = inputs.learned
    settings = inputs.collection.settings
    asked = compute_scope(
        rules=RULES,
        **spec.model_dump(
            mode="json", include={"preset", "parameters", "negatives", "seed", "members", "depth", "guards"}
        ),
        models=[settings.encoder, settings.reranker],
        calibration=spec.calibration.target if spec.calibration else None,
    )
    lineage = Lineage(request=asked)
    earlier = find_latest(data, spec, lineage)
    known = read_basis(earlier.folder) if earlier else None
    with open_materials(data, inputs.collection, inputs.corpus, spec, preset, spec.members, known) as sources:
        evidence = learned.make_evidence(inputs.corpus) if learned else None
        task = assemble(preset, inputs.positives.queries, sources, spec.members, spec.depth, evidence)
        check_needs(task, preset)
        calibrated = _calibrate(spec, task, progress)
        if calibrated:
            preset = make_preset(spec.preset, {**spec.parameters, **calibrated.parameters})
        basis = get_basis(task)
        if basis is not None:
            write_basis(folder, basis)
        versions = list_versions(sources)
        state = (
            compute_versions_digest(dict(inputs.versions)),
            learned.digest if learned else "",
            compute_basis_digest(basis),
        )
        named = hash_data(spec, *state, orjson.dumps([settings.encoder, versions]).decode())
        work = _open_work(spec, data, inputs, named)
        parameters = read_parameters(preset)
        scope = compute_scope(request=asked, parameters=parameters, models=versions)
        choice = NegativeChoice(preset, spec.negatives, spec.seed)
        try:
            mining = IncrementalMining(task, choice, scope, inputs.versions, earlier)
            mining.run(work, _make_share_reporter(progress, check))
        except DocumentsChangedError:
            work.remove()
            raise
        facts = MinedFacts(
            pairs=sum(query.pairs for query in work.read_queries()),
            positives=inputs.positives,
            members=tuple(dict.fromkeys([*(m.name for m in task.members), *_judge(task)])),
            parameters=parameters,
            positive_first=sum(query.positive_first for query in work.read_queries()),
            reuse=_reuse(work, earlier, compute_basis_digest(known) == compute_basis_digest(basis)),
            calibration=calibrated.as_json() if calibrated else None,
            simulated=bool(learned and learned.clicks.simulated),
            feedback_us=learned.span_us if learned else None,
            notes=_write_notes(task, work, learned),
            versions=versions,
            data_hash=named,
        )
    return MiningOutcome(work, facts, lineage)


def _make_empty_set(spec: MiningSpec, data: Path, preset: Preset, inputs: Inputs) -> MiningOutcome:
    """Makes a set without rows, whose report says why."""
    learned = inputs.learned
    named = hash_data(spec, compute_versions_digest(dict(inputs.versions)), learned.digest if learned else "")
    facts = MinedFacts(
        pairs=0,
        positives=inputs.positives,
        members=(),
        parameters=read_parameters(preset),
        positive_first=0,
        reuse={"queries": 0, "reused": 0, "why": ""},
        calibration=None,
        simulated=bool(learned and learned.clicks.simulated),
        feedback_us=learned.span_us if learned else None,
        notes=learned.notes if learned else (),
        versions={},
        data_hash=named,
    )
    return MiningOutcome(_open_work(spec, data, inputs, named), facts, Lineage(request=""))


def _open_work(spec: MiningSpec, data: Path, inputs: Inputs, named: str) -> Work:
    """Opens the work of this state alone: documents that were written and deleted again may be in the
    blocks of another."""
    mark = WorkMark(collection_key=spec.collection_key, from_feedback=inputs.learned is not None)
    return Work(data / FOLDER / WORK / compute_scope(set=named, state=_read_state(inputs.collection)), mark)


def _calibrate(spec: MiningSpec, task: MiningTask, progress: ProgressReporter) -> Calibrated | None:
    if spec.calibration is None:
        return None
    progress("calibration", 0.15)
    asked = spec.calibration
    return calibrate(
        task, spec.preset, spec.parameters, spec.negatives, spec.seed, asked.judgments, asked.target
    )


def _make_share_reporter(progress: ProgressReporter, check: Callable[[], None]) -> Any:
    def report(done: int, total: int) -> None:
        check()
        progress("mining", MINING_STARTS + (MINING_ENDS - MINING_STARTS) * done / max(1, total))

    return report


def _judge(task: MiningTask) -> list[str]:
    return ["reranker"] if task.judge_is_member else []


def _reuse(work: Work, earlier: EarlierSet | None, same_basis: bool) -> dict[str, Any]:
    queries = list(work.read_queries())
    reused = sum(query.reused for query in queries)
    why = ""
    if earlier is None:
        why = "there was no earlier set that was asked for in the same way"
    elif not same_basis:
        why = "the ensemble's basis had drifted and was fitted anew, so everything was mined again"
    elif reused < len(queries):
        why = f"rows come from {earlier.folder.name}; for the others something has changed"
    else:
        why = f"rows come from {earlier.folder.name}; nothing has changed"
    return {"queries": len(queries), "reused": reused, "why": why}


def _write_notes(task: MiningTask, work: Work, learned: LearnedFromClicks | None) -> tuple[str, ...]:
    copies = sum(query.copies for query in work.read_queries())
    told = [f"{copies:,} candidates were left out as copies of a positive"] if copies else []
    for member in task.members:
        told += member.notes if isinstance(member, LiveArm | LivePool) else ()
    return (*dict.fromkeys((*task.space.notes, *task.notes)), *(learned.notes if learned else ()), *told)


def _write(spec: MiningSpec, folder: Path, inputs: Inputs, outcome: MiningOutcome) -> None:
    facts, work = outcome.facts, outcome.work
    metadata = {
        "spec": spec.model_dump_json(exclude={"queries", "calibration", *NOT_OF_THE_RESULT}),
        "parameters": orjson.dumps(dict(facts.parameters)).decode(),
        "versions": orjson.dumps(dict(facts.versions)).decode(),
        "data_hash": facts.data_hash,
        "simulated": str(facts.simulated).lower(),
    }
    if facts.feedback_us:
        start_us, end_us = facts.feedback_us
        metadata |= {"feedback_start_us": str(start_us), "feedback_end_us": str(end_us)}
    write_set(folder / EXAMPLES, work.read_tables(), metadata)
    if outcome.lineage.request:
        write_lineage(folder, outcome.lineage, work.read_queries())
    relevance = inputs.learned.make_relevance() if inputs.learned else None
    rows = FalseNegativeRows(_audit(spec, inputs), relevance)

    def read_excerpts(ids: Sequence[str]) -> Mapping[str, str]:
        numbers = [inputs.corpus.numbers[id] for id in ids]
        return dict(zip(ids, inputs.corpus.read_texts(numbers), strict=True))

    report, summary = make_report(spec, facts, work.read_tables(), rows, read_excerpts)
    write_json(folder / REPORT, report)
    write_bytes(folder / PAGE, render_page(report).encode())
    write_model(folder / SUMMARY, summary)


def _audit(spec: MiningSpec, inputs: Inputs) -> Audit | None:
    if spec.calibration is None:
        return None
    relevant = {
        make_question_key(query.text): frozenset(id for id, grade in query.judgments.items() if grade > 0)
        for query in spec.calibration.judgments
    }
    ids = inputs.corpus.ids
    known = {
        make_question_key(query.text): frozenset(ids[positive.document] for positive in query.positives)
        for query in inputs.positives.queries
    }
    return Audit(relevant, known)
