"""The findings of evaluations of a collection's re-rankers, the new one and those before it, in short."""

from collections.abc import Iterator
from functools import partial

from quarry.client.paging import read_pages
from quarry.errors import QuarryError
from quarry.training.loop_spec import VerdictEvidence, VersionInShort
from quarry.training.spec import EvaluationReport, Metric, OffPolicyEstimate
from quarry.v1 import model_service_pb2 as pb
from quarry_trainer.loop.calls import ServerCalls

MOST_VERSIONS = 50
"""That a report tells of; the newest."""
MEASURE, SUBJECTS = "nDCG@10", ("candidate", "difference")
_PAGE = 1_000
_US, _NANOS_PER_US = 1_000_000, 1_000


def read_evidence(report: EvaluationReport) -> VerdictEvidence:
    """Reads what a verdict rests on. Details that an evaluation did not leave are left out."""
    details = report.details
    decides = details.get("decides")
    decides = decides if isinstance(decides, dict) else {}
    explored, share = details.get("explored_clicks"), details.get("owner_share")
    decided = report.verdict not in ("BAD_DATA", "INSUFFICIENT_DATA")
    return VerdictEvidence(
        source=report.source,
        queries=report.queries,
        earlier_decisions=int(decides.get("earlier_decisions", 0)),
        level=float(decides["level"]) if decided and "level" in decides else None,
        off_policy=report.off_policy,
        explored_clicks=explored if isinstance(explored, int) else None,
        owner_share=float(share) if isinstance(share, int | float) else None,
    )


def list_versions(server: ServerCalls, collection: str) -> tuple[VersionInShort, ...]:
    """Lists the collection's re-rankers, oldest first, at most ``MOST_VERSIONS``."""
    found = [model for model in _read_models(server, collection) if model.kind == pb.MODEL_KIND_RERANKER]
    return tuple(_summarize_version(server, model) for model in reversed(found[:MOST_VERSIONS]))


def read_metric(metric: pb.ModelMetric) -> Metric:
    names = (field.name for field in metric.DESCRIPTOR.fields)
    return Metric.model_validate({name: getattr(metric, name) for name in names})


def _read_models(server: ServerCalls, collection: str) -> Iterator[pb.Model]:
    """Reads models, newest first."""
    request = pb.ListModelsRequest(collection=collection, page_size=_PAGE)
    for page in read_pages(partial(server.ask, server.models.ListModels), request):
        yield from page.models


def _summarize_version(server: ServerCalls, model: pb.Model) -> VersionInShort:
    verdict = pb.ModelVerdict.Name(model.verdict).removeprefix("MODEL_VERDICT_") if model.verdict else ""
    metrics = tuple(
        read_metric(metric)
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
        off_policy=_read_off_policy(server, model.name) if verdict and not metrics else (),
    )


def _read_off_policy(server: ServerCalls, name: str) -> tuple[OffPolicyEstimate, ...]:
    """Reads estimates from clicks, which lists leave out."""
    try:
        model = server.ask(server.models.GetModel, pb.GetModelRequest(name=name)).model
        report = EvaluationReport.model_validate_json(model.report_json)
    except (QuarryError, ValueError):  # it was removed meanwhile, or another release wrote it
        return ()
    return tuple(one for one in report.off_policy if one.estimator == "doubly_robust")
