"""Makes one mining set: reads what there is, mines what is asked, writes rows and report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from quarry.documents.catalog import Collection
from quarry.documents.view import view_of
from quarry.errors import UnavailableError
from quarry.jobs.child import Progress
from quarry.jobs.files import write_bytes, write_json, write_model
from quarry.jobs.folders import WORK
from quarry.mining.sets import EXAMPLES, FOLDER, PAGE, REPORT, SUMMARY, WorkMark
from quarry.mining.spec import MiningSpec
from quarry.questions import question_key
from quarry_miner.corpus import Corpus
from quarry_miner.evidence.logs import Logs, open_logs, versions_digest
from quarry_miner.evidence.positives import Positives, join_positives
from quarry_miner.job.assembly import assemble
from quarry_miner.job.bases import basis_digest, basis_of, read_basis, write_basis
from quarry_miner.job.learned import Learned, learn
from quarry_miner.job.materials import open_materials, versions_of
from quarry_miner.members.live_arm import LiveArm
from quarry_miner.members.live_pool import LivePool
from quarry_miner.mining.calibration import Calibrated, calibrate
from quarry_miner.mining.earlier import EarlierSet, Lineage, latest, write_lineage
from quarry_miner.mining.fingerprints import scope_of
from quarry_miner.mining.incremental import Choice, IncrementalMining
from quarry_miner.mining.mining import check_needs, parameters_of
from quarry_miner.mining.parquet import write_set
from quarry_miner.mining.task import MiningTask
from quarry_miner.mining.work import NOT_OF_THE_RESULT, RULES, Work, data_hash
from quarry_miner.presets.base import Preset
from quarry_miner.presets.registry import make_preset
from quarry_miner.report.false_negative_rows import FalseNegativeRows
from quarry_miner.report.false_negatives import Audit
from quarry_miner.report.page import render_page
from quarry_miner.report.report import MinedFacts, make_report

logger = logging.getLogger(__name__)

MINING_STARTS, MINING_ENDS = 0.2, 0.95
"""Shares of the progress."""
TRIES = 2
"""For a set that is made from one state of the collection."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a set is made from, read at one time."""

    collection: Collection
    corpus: Corpus
    versions: Mapping[str, int]
    learned: Learned | None
    positives: Positives


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What mining has left in ``work``, and what is known of it beside the rows."""

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


def make_set(spec: MiningSpec, folder: Path, progress: Progress) -> None:
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
            state = _state(inputs.collection)

            def check(state: tuple[int, str] = state) -> None:
                if _state(logs.collection(spec.collection_key)) != state:
                    raise DocumentsChangedError(spec.collection)

            try:
                outcome = _mined(spec, data, preset, inputs, folder, progress, check)
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


def _state(collection: Collection) -> tuple[int, str]:
    """Of its documents and its index: every write counts up, and no number comes again."""
    return collection.last_sequence, collection.generation


def _read(spec: MiningSpec, logs: Logs, progress: Progress) -> Inputs:
    key = spec.collection_key
    collection = logs.collection(key)
    learned = None
    if spec.feedback is not None:
        progress("feedback", 0.0)
        clicks = logs.clicks(key, spec.guards, spec.feedback.start_us, spec.feedback.end_us)
        learned = learn(clicks, spec.feedback)
    progress("documents", 0.05)
    versions = logs.versions(key)
    schema = collection.settings.schema
    corpus = Corpus.of_log(logs.documents, key, schema, view_of(schema, collection.mixed_fields))
    positives = join_positives(spec.queries, learned.positives if learned else (), corpus)
    return Inputs(collection, corpus, versions, learned, positives)


def _mined(
    spec: MiningSpec,
    data: Path,
    preset: Preset,
    inputs: Inputs,
    folder: Path,
    progress: Progress,
    check: Callable[[], None],
) -> Outcome:
    """``check`` is called after every block, and raises if documents have changed."""
    if not inputs.positives.queries:
        return _nothing(spec, data, preset, inputs)
    progress("members", 0.1)
    learned = inputs.learned
    settings = inputs.collection.settings
    asked = scope_of(
        rules=RULES,
        **spec.model_dump(
            mode="json", include={"preset", "parameters", "negatives", "seed", "members", "depth", "guards"}
        ),
        models=[settings.encoder, settings.reranker],
        calibration=spec.calibration.target if spec.calibration else None,
    )
    lineage = Lineage(request=asked)
    earlier = latest(data, spec, lineage)
    known = read_basis(earlier.folder) if earlier else None
    with open_materials(data, inputs.collection, inputs.corpus, spec, preset, spec.members, known) as sources:
        evidence = learned.evidence(inputs.corpus) if learned else None
        task = assemble(preset, inputs.positives.queries, sources, spec.members, spec.depth, evidence)
        check_needs(task, preset)
        calibrated = _calibrated(spec, task, progress)
        if calibrated:
            preset = make_preset(spec.preset, {**spec.parameters, **calibrated.parameters})
        basis = basis_of(task)
        if basis is not None:
            write_basis(folder, basis)
        versions = versions_of(sources)
        state = (
            versions_digest(dict(inputs.versions)),
            learned.digest if learned else "",
            basis_digest(basis),
        )
        named = data_hash(spec, *state, orjson.dumps([settings.encoder, versions]).decode())
        work = _work(spec, data, inputs, named)
        parameters = parameters_of(preset)
        scope = scope_of(request=asked, parameters=parameters, models=versions)
        choice = Choice(preset, spec.negatives, spec.seed)
        try:
            mining = IncrementalMining(task, choice, scope, inputs.versions, earlier)
            mining.run(work, _share_of(progress, check))
        except DocumentsChangedError:
            work.remove()
            raise
        facts = MinedFacts(
            pairs=sum(query.pairs for query in work.queries()),
            positives=inputs.positives,
            members=tuple(dict.fromkeys([*(m.name for m in task.members), *_judge(task)])),
            parameters=parameters,
            positive_first=sum(query.positive_first for query in work.queries()),
            reuse=_reuse(work, earlier, basis_digest(known) == basis_digest(basis)),
            calibration=calibrated.as_json() if calibrated else None,
            simulated=bool(learned and learned.clicks.simulated),
            feedback_us=learned.span_us if learned else None,
            notes=_notes(task, work, learned),
            versions=versions,
            data_hash=named,
        )
    return Outcome(work, facts, lineage)


def _nothing(spec: MiningSpec, data: Path, preset: Preset, inputs: Inputs) -> Outcome:
    """A set without rows, whose report says why."""
    learned = inputs.learned
    named = data_hash(spec, versions_digest(dict(inputs.versions)), learned.digest if learned else "")
    facts = MinedFacts(
        pairs=0,
        positives=inputs.positives,
        members=(),
        parameters=parameters_of(preset),
        positive_first=0,
        reuse={"queries": 0, "reused": 0, "why": ""},
        calibration=None,
        simulated=bool(learned and learned.clicks.simulated),
        feedback_us=learned.span_us if learned else None,
        notes=learned.notes if learned else (),
        versions={},
        data_hash=named,
    )
    return Outcome(_work(spec, data, inputs, named), facts, Lineage(request=""))


def _work(spec: MiningSpec, data: Path, inputs: Inputs, named: str) -> Work:
    """Of this state alone: documents that were written and deleted again may be in the blocks of another."""
    mark = WorkMark(collection_key=spec.collection_key, from_feedback=inputs.learned is not None)
    return Work(data / FOLDER / WORK / scope_of(set=named, state=_state(inputs.collection)), mark)


def _calibrated(spec: MiningSpec, task: MiningTask, progress: Progress) -> Calibrated | None:
    if spec.calibration is None:
        return None
    progress("calibration", 0.15)
    asked = spec.calibration
    return calibrate(
        task, spec.preset, spec.parameters, spec.negatives, spec.seed, asked.judgments, asked.target
    )


def _share_of(progress: Progress, check: Callable[[], None]) -> Any:
    def report(done: int, total: int) -> None:
        check()
        progress("mining", MINING_STARTS + (MINING_ENDS - MINING_STARTS) * done / max(1, total))

    return report


def _judge(task: MiningTask) -> list[str]:
    return ["reranker"] if task.judge_is_member else []


def _reuse(work: Work, earlier: EarlierSet | None, same_basis: bool) -> dict[str, Any]:
    queries = list(work.queries())
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


def _notes(task: MiningTask, work: Work, learned: Learned | None) -> tuple[str, ...]:
    copies = sum(query.copies for query in work.queries())
    told = [f"{copies:,} candidates were left out as copies of a positive"] if copies else []
    for member in task.members:
        told += member.notes if isinstance(member, LiveArm | LivePool) else ()
    return (*dict.fromkeys((*task.space.notes, *task.notes)), *(learned.notes if learned else ()), *told)


def _write(spec: MiningSpec, folder: Path, inputs: Inputs, outcome: Outcome) -> None:
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
    write_set(folder / EXAMPLES, work.tables(), metadata)
    if outcome.lineage.request:
        write_lineage(folder, outcome.lineage, work.queries())
    relevance = inputs.learned.relevance() if inputs.learned else None
    rows = FalseNegativeRows(_audit(spec, inputs), relevance)

    def excerpts(ids: Sequence[str]) -> Mapping[str, str]:
        numbers = [inputs.corpus.numbers[id] for id in ids]
        return dict(zip(ids, inputs.corpus.texts(numbers), strict=True))

    report, summary = make_report(spec, facts, work.tables(), rows, excerpts)
    write_json(folder / REPORT, report)
    write_bytes(folder / PAGE, render_page(report).encode())
    write_model(folder / SUMMARY, summary)


def _audit(spec: MiningSpec, inputs: Inputs) -> Audit | None:
    if spec.calibration is None:
        return None
    relevant = {
        question_key(query.text): frozenset(id for id, grade in query.judgments.items() if grade > 0)
        for query in spec.calibration.judgments
    }
    ids = inputs.corpus.ids
    known = {
        question_key(query.text): frozenset(ids[positive.document] for positive in query.positives)
        for query in inputs.positives.queries
    }
    return Audit(relevant, known)
