"""A turn of the loop: feedback becomes examples, examples a model, and the model is held to what serves."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2

from quarry.documents.catalog import read_now_us
from quarry.errors import Cancelled, NoFeedbackError, NotFoundError, QuarryError, UnavailableError
from quarry.feedback.reading.feedback_summary import FeedbackSummary, read_feedback_summary
from quarry.feedback.tables import FILE_NAME
from quarry.jobs.child import ProgressReporter
from quarry.jobs.files import write_bytes, write_model
from quarry.jobs.waited_for import note_operation
from quarry.mining.spec import Verdict
from quarry.training.loop_outcomes import describe_next_command
from quarry.training.loop_reports import PAGE, REPORT, LoopPlace, LoopReports, Unfinished
from quarry.training.loop_spec import MOST_ASKED, LoopOutcome, LoopReport, LoopSpec, MinedInShort
from quarry.training.spec import EvaluationReport, ModelVerdict
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_trainer.loop.calls import ServerCalls
from quarry_trainer.loop.history import list_versions, read_evidence, read_metric
from quarry_trainer.loop.loop_page import render_page
from quarry_trainer.loop.top_ten import TopTen, TopTens, list_rank_changes

logger = logging.getLogger(__name__)

MINED, SEARCHED, TRAINED, COMPARED = 0.45, 0.48, 0.94, 0.98
"""How far a turn is after each of its stages."""
_US, _NANOS_PER_US = 1_000_000, 1_000
GO_ON_AFTER = (UnavailableError, Cancelled)
"""What a turn is interrupted by: the next one goes on with its work."""


def run_once(spec: LoopSpec, folder: Path, progress: ProgressReporter) -> LoopReport:
    """Makes the turn and leaves its report in ``folder``, which lies in a server's data folder.

    Raises:
        QuarryError: what the server answered, or how an operation of it failed.
    """
    with ServerCalls(spec.server) as server:
        return LoopRun(spec, folder, server, progress).make_report()


class LoopRun:
    """One turn. It is a client of the server like any other, but for the feedback log, which it reads."""

    def __init__(self, spec: LoopSpec, folder: Path, server: ServerCalls, progress: ProgressReporter) -> None:
        self._spec, self._folder, self._server, self._progress = spec, folder, server, progress
        self._data = folder.parents[1]
        self._reports = LoopReports(self._data)
        self._advice: list[str] = []

    def make_report(self) -> LoopReport:
        """Makes the run's report, written down; how far the loop has come moves on after that."""
        place = self._reports.read_place(self._spec.collection_key)
        begun = place.unfinished or Unfinished(until_us=read_now_us())
        self._progress("feedback", 0.0)
        summary = self._read_summary(place.until_us, begun.until_us)
        few = summary.choices < self._spec.min_new_choices and not self._spec.force
        if few and place.unfinished is None:
            return self._report_too_few(summary)
        try:
            report = self._work(summary, begun, place.until_us)
        except GO_ON_AFTER:
            raise
        except QuarryError as error:
            self._set_place(LoopPlace(until_us=place.until_us))
            if error.reason == NoFeedbackError.reason:
                return self._report_too_few(summary)
            raise
        self._progress("report", COMPARED)
        write_bytes(self._folder / PAGE, render_page(report).encode())
        write_model(self._folder / REPORT, report)
        self._set_place(LoopPlace(until_us=begun.until_us))
        return report

    def _work(self, summary: FeedbackSummary, begun: Unfinished, until_us: int) -> LoopReport:
        self._set_place(LoopPlace(until_us=until_us, unfinished=begun))
        mined = self._mine(begun)
        if mined.verdict != mining_pb.MINING_VERDICT_GOOD:
            return self._report("BAD_EXAMPLES", summary, mined, None)
        begun = begun.model_copy(update={"mining_set": mined.name})
        self._set_place(LoopPlace(until_us=until_us, unfinished=begun))
        before = self._search_before(summary)
        model = self._train(mined.name)
        report = self._report(_choose_outcome(model), summary, mined, model)
        return report if before is None or not model.name else self._compare(report, summary, before)

    def _read_summary(self, start_us: int, end_us: int) -> FeedbackSummary:
        path, spec = self._data / FILE_NAME, self._spec
        return read_feedback_summary(path, spec.collection_key, start_us, end_us, spec.guards, MOST_ASKED)

    def _mine(self, begun: Unfinished) -> mining_pb.MiningSet:
        """Mines the set of the run that was interrupted, or a new one."""
        if begun.mining_set:
            request = mining_pb.GetMiningSetRequest(name=begun.mining_set)
            try:
                return self._server.ask(self._server.mining.GetMiningSet, request).mining_set
            except NotFoundError:
                logger.info("the mining set %s is gone: another one is made", begun.mining_set)
        wanted = mining_pb.MineHardNegativesRequest(
            collection=self._spec.collection,
            feedback=mining_pb.FeedbackPositives(end_time=_to_timestamp(begun.until_us)),
            seed=self._spec.seed,
            request_id=_make_request_id(self._spec, "mine"),
        )
        operation = self._server.ask(self._server.mining.MineHardNegatives, wanted)
        made = mining_pb.MiningSet()
        metadata = mining_pb.MineHardNegativesMetadata()
        self._finish(operation, "mining", metadata, 0.0, MINED).response.Unpack(made)
        return made

    def _train(self, mining_set: str) -> models_pb.Model:
        spec = self._spec
        request = pb.TrainRerankerRequest(
            collection=spec.collection,
            mining_set=mining_set,
            steps=spec.steps,
            max_tokens=spec.max_tokens,
            seed=spec.seed,
            judgments=[
                mining_pb.JudgedQuery(
                    query_id=query.id,
                    text=query.text,
                    judgments=[
                        mining_pb.Judgment(document_id=d, grade=g) for d, g in query.judgments.items()
                    ],
                )
                for query in spec.judgments
            ],
            description=f"loop {spec.name}",
            request_id=_make_request_id(spec, "train"),
        )
        operation = self._server.ask(self._server.training.TrainReranker, request)
        made = models_pb.Model()
        metadata = pb.TrainingMetadata()
        self._finish(operation, "training", metadata, SEARCHED, TRAINED).response.Unpack(made)
        return made

    def _finish(
        self,
        operation: operations_pb2.Operation,
        step: str,
        metadata: mining_pb.MineHardNegativesMetadata | pb.TrainingMetadata,
        start: float,
        end: float,
    ) -> operations_pb2.Operation:
        """Waits for the operation to end well. Its name lies beside the spec, for the server to end it."""
        note_operation(self._folder, operation.name)

        def note_progress(now: operations_pb2.Operation) -> None:
            now.metadata.Unpack(metadata)
            stage = f"{step}: {metadata.stage}" if metadata.stage else step
            self._progress(stage, start + (end - start) * metadata.progress)

        return self._server.finish(operation, note_progress)

    def _search_before(self, summary: FeedbackSummary) -> list[TopTen] | None:
        self._progress("searching", MINED)
        return self._search_or_explain(
            lambda: TopTens(self._server, self._spec.collection).search_all(summary.asked)
        )

    def _compare(self, report: LoopReport, summary: FeedbackSummary, before: Sequence[TopTen]) -> LoopReport:
        """Compares what the model changes for the queries that are asked most."""
        self._progress("comparing", TRAINED)
        after = self._search_or_explain(
            lambda: TopTens(self._server, self._spec.collection).search_all(summary.asked, report.model)
        )
        if after is None:
            return report.model_copy(
                update={"advice": (*report.advice[:-1], *self._advice, *report.advice[-1:])}
            )
        changes = list_rank_changes(summary.asked, before, after)
        return report.model_copy(update={"changes": changes, "queries_compared": len(summary.asked)})

    def _search_or_explain(self, search: Callable[[], list[TopTen]]) -> list[TopTen] | None:
        """Searches with the model. A model that was trained is worth more than the comparison: what stops
        that is only told."""
        try:
            return search()
        except QuarryError as error:
            logger.warning("the top tens cannot be compared: %s", error)
            self._advice.append(f"the top tens of the most frequent queries could not be compared: {error}")
            return None

    def _report_too_few(self, summary: FeedbackSummary) -> LoopReport:
        """Writes a report for the server to read; it keeps no report without a name."""
        report = self._make_outline("NOT_ENOUGH_FEEDBACK", summary).model_copy(
            update={"name": "", "advice": _describe_too_few(summary, self._spec)}
        )
        write_model(self._folder / REPORT, report)
        return report

    def _report(
        self,
        outcome: LoopOutcome,
        summary: FeedbackSummary,
        mined: mining_pb.MiningSet,
        model: models_pb.Model | None,
    ) -> LoopReport:
        report = self._make_outline(outcome, summary).model_copy(
            update={
                "mining": _summarize_mining(mined),
                "simulated": mined.simulated,
                "feedback_start_us": summary.first_us,
                "feedback_end_us": summary.last_us,
                "versions": list_versions(self._server, self._spec.collection),
                "advice": _list_advice(outcome, self._spec, "", (*mined.advice, *self._advice)),
            }
        )
        if model is None:
            return report
        found = EvaluationReport.model_validate_json(model.report_json)
        return report.model_copy(
            update={
                "model": model.name,
                "model_verdict": cast(ModelVerdict, _name_verdict(model)),
                "compared_with": model.lineage.compared_with,
                "metrics": tuple(read_metric(metric) for metric in model.metrics),
                "evidence": read_evidence(found),
                "simulated": mined.simulated or model.lineage.simulated,
                "advice": _list_advice(outcome, self._spec, model.name, (*model.advice, *self._advice)),
            }
        )

    def _make_outline(self, outcome: LoopOutcome, summary: FeedbackSummary) -> LoopReport:
        spec = self._spec
        return LoopReport(
            name=spec.name,
            collection=spec.collection,
            collection_key=spec.collection_key,
            start_us=spec.create_time_us,
            end_us=read_now_us(),
            outcome=outcome,
            new_choices=summary.choices,
            min_new_choices=spec.min_new_choices,
        )

    def _set_place(self, place: LoopPlace) -> None:
        self._reports.set_place(self._spec.collection_key, place)


def _make_request_id(spec: LoopSpec, step: str) -> str:
    """Makes an id so short that the server takes it, however long the run's name is."""
    return f"{hashlib.blake2b(spec.name.encode(), digest_size=12).hexdigest()}-{step}"


def _choose_outcome(model: models_pb.Model) -> LoopOutcome:
    if model.verdict == models_pb.MODEL_VERDICT_BAD_DATA:
        return "BAD_EXAMPLES"
    if model.state == models_pb.MODEL_STATE_SERVING:
        return "PROMOTED"
    improved = model.verdict == models_pb.MODEL_VERDICT_IMPROVED
    return "IMPROVED_NOT_PROMOTED" if improved else "NOT_BETTER"


def _list_advice(outcome: LoopOutcome, spec: LoopSpec, model: str, advice: Sequence[str]) -> tuple[str, ...]:
    """Lists the advice, each sentence once, and what to type next."""
    return tuple(dict.fromkeys((*advice, describe_next_command(outcome, spec.collection, model))))


def _describe_too_few(summary: FeedbackSummary, spec: LoopSpec) -> tuple[str, ...]:
    if spec.force or summary.choices >= spec.min_new_choices:
        return (
            f"no choice in the log can be learned from: look at `quarry feedback stats {spec.collection}`",
        )
    new = f"{summary.choices:,} choice{'s are' if summary.choices != 1 else ' is'} new"
    few = f"{new}, under {spec.min_new_choices:,}: wait for more"
    return few, describe_next_command("NOT_ENOUGH_FEEDBACK", spec.collection, "")


def _summarize_mining(made: mining_pb.MiningSet) -> MinedInShort:
    verdict = mining_pb.MiningVerdict.Name(made.verdict).removeprefix("MINING_VERDICT_")
    names = ("false_negatives", "false_negatives_lower", "false_negatives_upper")
    return MinedInShort(
        name=made.name,
        verdict=cast(Verdict, verdict),
        advice=tuple(made.advice),
        pairs=made.pairs,
        coverage=made.coverage,
        rows=made.rows,
        simulated=made.simulated,
        **{name: getattr(made, name) for name in names if made.HasField(name)},  # type: ignore[arg-type]
    )


def _name_verdict(model: models_pb.Model) -> str:
    return models_pb.ModelVerdict.Name(model.verdict).removeprefix("MODEL_VERDICT_")


def _to_timestamp(time_us: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=time_us // _US, nanos=time_us % _US * _NANOS_PER_US)
