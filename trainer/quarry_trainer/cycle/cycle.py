"""A turn of the loop: feedback becomes examples, examples a model, and the model is held to what serves."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2

from quarry.documents.catalog import now_us
from quarry.errors import Cancelled, NoFeedbackError, NotFoundError, QuarryError, UnavailableError
from quarry.feedback.reading.news import News, read_news
from quarry.feedback.tables import FILE_NAME
from quarry.jobs.child import Progress
from quarry.jobs.files import write_bytes, write_model
from quarry.jobs.waited_for import note_operation
from quarry.mining.spec import Verdict
from quarry.training.loop_reports import PAGE, REPORT, LoopReports, Place, Unfinished
from quarry.training.loop_spec import MOST_ASKED, LoopOutcome, LoopReport, LoopSpec, MinedInShort
from quarry.training.spec import EvaluationReport, ModelVerdict
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_trainer.cycle.calls import ServerCalls
from quarry_trainer.cycle.history import evidence_of, metric_of, versions
from quarry_trainer.cycle.page import render_page
from quarry_trainer.cycle.top_ten import TopTen, TopTens, rank_changes

logger = logging.getLogger(__name__)

MINED, SEARCHED, TRAINED, COMPARED = 0.45, 0.48, 0.94, 0.98
"""How far a turn is after each of its stages."""
_US, _NANOS_PER_US = 1_000_000, 1_000
GO_ON_AFTER = (UnavailableError, Cancelled)
"""What a turn is interrupted by: the next one goes on with its work."""


def make_turn(spec: LoopSpec, folder: Path, progress: Progress) -> LoopReport:
    """Makes the turn and leaves its report in ``folder``, which lies in a server's data folder.

    Raises:
        QuarryError: what the server answered, or how an operation of it failed.
    """
    with ServerCalls(spec.server) as server:
        return Turn(spec, folder, server, progress).made()


class Turn:
    """One turn. It is a client of the server like any other, but for the feedback log, which it reads."""

    def __init__(self, spec: LoopSpec, folder: Path, server: ServerCalls, progress: Progress) -> None:
        self._spec, self._folder, self._server, self._progress = spec, folder, server, progress
        self._data = folder.parents[1]
        self._reports = LoopReports(self._data)
        self._advice: list[str] = []

    def made(self) -> LoopReport:
        """The turn's report, written down; how far the loop has come moves on after that."""
        place = self._reports.place(self._spec.collection_key)
        begun = place.unfinished or Unfinished(until_us=now_us())
        self._progress("feedback", 0.0)
        news = self._news(place.until_us, begun.until_us)
        few = news.choices < self._spec.min_new_choices and not self._spec.force
        if few and place.unfinished is None:
            return self._not_enough(news)
        try:
            report = self._worked(news, begun, place.until_us)
        except GO_ON_AFTER:
            raise
        except QuarryError as error:
            self._set_place(Place(until_us=place.until_us))
            if error.reason == NoFeedbackError.reason:
                return self._not_enough(news)
            raise
        self._progress("report", COMPARED)
        write_bytes(self._folder / PAGE, render_page(report).encode())
        write_model(self._folder / REPORT, report)
        self._set_place(Place(until_us=begun.until_us))
        return report

    def _worked(self, news: News, begun: Unfinished, until_us: int) -> LoopReport:
        self._set_place(Place(until_us=until_us, unfinished=begun))
        mined = self._mined(begun)
        if mined.verdict != mining_pb.MINING_VERDICT_GOOD:
            return self._report("BAD_EXAMPLES", news, mined, None)
        begun = begun.model_copy(update={"mining_set": mined.name})
        self._set_place(Place(until_us=until_us, unfinished=begun))
        before = self._before(news)
        model = self._trained(mined.name)
        report = self._report(_outcome(model), news, mined, model)
        return report if before is None or not model.name else self._compared(report, news, before)

    def _news(self, start_us: int, end_us: int) -> News:
        path, spec = self._data / FILE_NAME, self._spec
        return read_news(path, spec.collection_key, start_us, end_us, spec.guards, MOST_ASKED)

    def _mined(self, begun: Unfinished) -> mining_pb.MiningSet:
        """The set of the turn that was interrupted, or a new one."""
        if begun.mining_set:
            request = mining_pb.GetMiningSetRequest(name=begun.mining_set)
            try:
                return self._server.ask(self._server.mining.GetMiningSet, request).mining_set
            except NotFoundError:
                logger.info("the mining set %s is gone: another one is made", begun.mining_set)
        wanted = mining_pb.MineHardNegativesRequest(
            collection=self._spec.collection,
            feedback=mining_pb.FeedbackPositives(end_time=_timestamp(begun.until_us)),
            seed=self._spec.seed,
            request_id=_request_id(self._spec, "mine"),
        )
        operation = self._server.ask(self._server.mining.MineHardNegatives, wanted)
        made = mining_pb.MiningSet()
        metadata = mining_pb.MineHardNegativesMetadata()
        self._finished(operation, "mining", metadata, 0.0, MINED).response.Unpack(made)
        return made

    def _trained(self, mining_set: str) -> models_pb.Model:
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
            request_id=_request_id(spec, "train"),
        )
        operation = self._server.ask(self._server.training.TrainReranker, request)
        made = models_pb.Model()
        metadata = pb.TrainingMetadata()
        self._finished(operation, "training", metadata, SEARCHED, TRAINED).response.Unpack(made)
        return made

    def _finished(
        self,
        operation: operations_pb2.Operation,
        what: str,
        metadata: mining_pb.MineHardNegativesMetadata | pb.TrainingMetadata,
        start: float,
        end: float,
    ) -> operations_pb2.Operation:
        """The operation when it has ended well. Its name lies beside the spec, for the server to end it."""
        note_operation(self._folder, operation.name)

        def heard(now: operations_pb2.Operation) -> None:
            now.metadata.Unpack(metadata)
            stage = f"{what}: {metadata.stage}" if metadata.stage else what
            self._progress(stage, start + (end - start) * metadata.progress)

        return self._server.finish(operation, heard)

    def _before(self, news: News) -> list[TopTen] | None:
        self._progress("searching", MINED)
        return self._looked(lambda: TopTens(self._server, self._spec.collection).of(news.asked))

    def _compared(self, report: LoopReport, news: News, before: Sequence[TopTen]) -> LoopReport:
        """What the model changes for the queries that are asked most."""
        self._progress("comparing", TRAINED)
        after = self._looked(
            lambda: TopTens(self._server, self._spec.collection).of(news.asked, report.model)
        )
        if after is None:
            return report.model_copy(update={"advice": (*report.advice, *self._advice)})
        changes = rank_changes(news.asked, before, after)
        return report.model_copy(update={"changes": changes, "queries_compared": len(news.asked)})

    def _looked(self, search: Callable[[], list[TopTen]]) -> list[TopTen] | None:
        """A model that was trained is worth more than the comparison: what stops that is only told."""
        try:
            return search()
        except QuarryError as error:
            logger.warning("the top tens cannot be compared: %s", error)
            self._advice.append(f"the top tens of the most frequent queries could not be compared: {error}")
            return None

    def _not_enough(self, news: News) -> LoopReport:
        """Written for the server to read; it keeps no report without a name."""
        report = self._outline("NOT_ENOUGH_FEEDBACK", news).model_copy(
            update={"name": "", "advice": (_too_few(news, self._spec),)}
        )
        write_model(self._folder / REPORT, report)
        return report

    def _report(
        self, outcome: LoopOutcome, news: News, mined: mining_pb.MiningSet, model: models_pb.Model | None
    ) -> LoopReport:
        report = self._outline(outcome, news).model_copy(
            update={
                "mining": _in_short(mined),
                "simulated": mined.simulated,
                "feedback_start_us": news.first_us,
                "feedback_end_us": news.last_us,
                "versions": versions(self._server, self._spec.collection),
                "advice": (*mined.advice, *self._advice),
            }
        )
        if model is None:
            return report
        found = EvaluationReport.model_validate_json(model.report_json)
        return report.model_copy(
            update={
                "model": model.name,
                "model_verdict": cast(ModelVerdict, _verdict(model)),
                "compared_with": model.lineage.compared_with,
                "metrics": tuple(metric_of(metric) for metric in model.metrics),
                "evidence": evidence_of(found),
                "simulated": mined.simulated or model.lineage.simulated,
                "advice": (*model.advice, *self._advice, *_next_step(outcome, model)),
            }
        )

    def _outline(self, outcome: LoopOutcome, news: News) -> LoopReport:
        spec = self._spec
        return LoopReport(
            name=spec.name,
            collection=spec.collection,
            collection_key=spec.collection_key,
            start_us=spec.create_time_us,
            end_us=now_us(),
            outcome=outcome,
            new_choices=news.choices,
            min_new_choices=spec.min_new_choices,
        )

    def _set_place(self, place: Place) -> None:
        self._reports.set_place(self._spec.collection_key, place)


def _request_id(spec: LoopSpec, what: str) -> str:
    """So short that the server takes it, however long the turn's name is."""
    return f"{hashlib.blake2b(spec.name.encode(), digest_size=12).hexdigest()}-{what}"


def _outcome(model: models_pb.Model) -> LoopOutcome:
    if model.verdict == models_pb.MODEL_VERDICT_BAD_DATA:
        return "BAD_EXAMPLES"
    if model.state == models_pb.MODEL_STATE_SERVING:
        return "PROMOTED"
    improved = model.verdict == models_pb.MODEL_VERDICT_IMPROVED
    return "IMPROVED_NOT_PROMOTED" if improved else "NOT_BETTER"


def _next_step(outcome: LoopOutcome, model: models_pb.Model) -> tuple[str, ...]:
    """What to type, now that there is a version."""
    if outcome == "PROMOTED":
        return (f"{model.name} serves; `quarry model rollback {model.collection}` takes it back",)
    if outcome == "IMPROVED_NOT_PROMOTED":
        return (f"`quarry model promote {model.name}` makes it serve",)
    return ()


def _too_few(news: News, spec: LoopSpec) -> str:
    if spec.force or news.choices >= spec.min_new_choices:
        return "no choice in the log can be learned from: look at `quarry feedback stats`"
    new = f"{news.choices:,} choice{'s are' if news.choices != 1 else ' is'} new"
    return f"{new}, under {spec.min_new_choices:,}: wait for more, or turn all the same (--force)"


def _in_short(made: mining_pb.MiningSet) -> MinedInShort:
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


def _verdict(model: models_pb.Model) -> str:
    return models_pb.ModelVerdict.Name(model.verdict).removeprefix("MODEL_VERDICT_")


def _timestamp(time_us: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=time_us // _US, nanos=time_us % _US * _NANOS_PER_US)
