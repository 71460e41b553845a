"""Reports of the loop, as messages."""

from quarry.training.loop_spec import LoopReport, QueryChange
from quarry.v1 import mining_service_pb2 as mining_pb
from quarry.v1 import model_service_pb2 as models_pb
from quarry.v1 import training_service_pb2 as pb
from quarry_server.common.values import to_timestamp
from quarry_server.models.messages import to_metric_message


def to_report_message(report: LoopReport, whole: bool = True) -> pb.LoopReport:
    """Writes the report; ``whole``: with everything, as JSON."""
    message = pb.LoopReport(
        name=report.name,
        collection=report.collection,
        start_time=to_timestamp(report.start_us),
        end_time=to_timestamp(report.end_us),
        outcome=pb.LoopOutcome.Value(f"LOOP_OUTCOME_{report.outcome}"),
        new_choices=report.new_choices,
        min_new_choices=report.min_new_choices,
        model=report.model,
        compared_with=report.compared_with,
        metrics=[to_metric_message(metric) for metric in report.metrics],
        changes=[_to_change_message(change) for change in report.changes],
        queries_compared=report.queries_compared,
        advice=report.advice,
        simulated=report.simulated,
        report_json=report.model_dump_json() if whole else "",
    )
    if report.mining is not None:
        message.mining_set = report.mining.name
        message.mining_verdict = mining_pb.MiningVerdict.Value(f"MINING_VERDICT_{report.mining.verdict}")
    if report.model_verdict is not None:
        message.model_verdict = models_pb.ModelVerdict.Value(f"MODEL_VERDICT_{report.model_verdict}")
    return message


def _to_change_message(change: QueryChange) -> pb.QueryChange:
    return pb.QueryChange(
        query=change.query,
        times_asked=change.times_asked,
        documents=[pb.RankChange(**one.model_dump()) for one in change.documents],
    )
