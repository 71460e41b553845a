"""What evaluations have found of a collection's re-rankers, the new one and those before it, in short."""

from collections.abc import Iterator
from functools import partial

from quarry.client.paging import read_pages
from quarry.errors import QuarryError
from quarry.training.loop_spec import Evidence, VersionInShort
from quarry.training.spec import EvaluationReport, Metric, OffPolicyEstimate
from quarry.v1 import model_service_pb2 as pb
from quarry_trainer.cycle.calls import ServerCalls

MOST_VERSIONS = 50
"""That a report tells of; the newest."""
MEASURE, SUBJECTS = "nDCG@10", ("candidate", "difference")
_PAGE = 1_000
_US, _NANOS_PER_US = 1_000_000, 1_000


def evidence_of(report: EvaluationReport) -> Evidence:
    """What a verdict rests on. Details that an evaluation did not leave are left out."""
    details = report.details
    decides = details.get("decides")
    decides = decides if isinstance(decides, dict) else {}
    explored, share = details.get("explored_clicks"), details.get("owner_share")
    decided = report.verdict not in ("BAD_DATA", "INSUFFICIENT_DATA")
    return Evidence(
        source=report.source,
        queries=report.queries,
        spent=int(decides.get("spent", 0)),
        level=float(decides["level"]) if decided and "level" in decides else None,
        off_policy=report.off_policy,
        explored_clicks=explored if isinstance(explored, int) else None,
        owner_share=float(share) if isinstance(share, int | float) else None,
    )


def versions(server: ServerCalls, collection: str) -> tuple[VersionInShort, ...]:
    """The collection's re-rankers, oldest first, at most ``MOST_VERSIONS``."""
    found = [model for model in _models(server, collection) if model.kind == pb.MODEL_KIND_RERANKER]
    return tuple(_in_short(server, model) for model in reversed(found[:MOST_VERSIONS]))


def metric_of(metric: pb.ModelMetric) -> Metric:
    names = (field.name for field in metric.DESCRIPTOR.fields)
    return Metric.model_validate({name: getattr(metric, name) for name in names})


def _models(server: ServerCalls, collection: str) -> Iterator[pb.Model]:
    """Newest first."""
    request = pb.ListModelsRequest(collection=collection, page_size=_PAGE)
    for page in read_pages(partial(server.ask, server.models.ListModels), request):
        yield from page.models


def _in_short(server: ServerCalls, model: pb.Model) -> VersionInShort:
    verdict = pb.ModelVerdict.Name(model.verdict).removeprefix("MODEL_VERDICT_") if model.verdict else ""
    metrics = tuple(
        metric_of(metric)
        for metric in model.metrics
        if (metric.measure, metric.slice) == (MEASURE, "all") and metric.subject in SUBJECTS
    )
    return VersionInShort(
        name=model.name,
        create_time_us=model.create_time.seconds * _US + model.create_time.nanos // _NANOS_PER_US,
        state=pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_"),
        verdict=verdict,
        simulated=model.lineage.simulated,
        metrics=metrics,
        off_policy=_off_policy(server, model.name) if verdict and not metrics else (),
    )


def _off_policy(server: ServerCalls, name: str) -> tuple[OffPolicyEstimate, ...]:
    """Estimates from clicks, which lists leave out."""
    try:
        model = server.ask(server.models.GetModel, pb.GetModelRequest(name=name)).model
        report = EvaluationReport.model_validate_json(model.report_json)
    except (QuarryError, ValueError):  # it was removed meanwhile, or another release wrote it
        return ()
    return tuple(one for one in report.off_policy if one.estimator == "doubly_robust")
