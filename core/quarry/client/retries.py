"""The service config of retries: the calls that gRPC makes again when the server is unavailable, and how
often."""

import json
from collections.abc import Mapping
from typing import Any

_SAFE: Mapping[str, frozenset[str]] = {
    "quarry.v1.CollectionService": frozenset(
        {"GetCollection", "ListCollections", "ListAliases", "GetVocabulary", "CheckConsistency"}
    ),
    "quarry.v1.DocumentService": frozenset({"GetDocument", "ListDocuments"}),
    # An event that is sent twice counts once, by its `event_id`.
    "quarry.v1.FeedbackService": frozenset({"GetFeedbackStats", "RecordEvents"}),
    "quarry.v1.MiningService": frozenset(
        {"EstimateRelevance", "GetMiningSet", "ListMiningSets", "ReadExamples"}
    ),
    "quarry.v1.ModelService": frozenset(
        {"GetModel", "ListModels", "ExportModel", "GetRanking", "ListRankings"}
    ),
    "quarry.v1.SearchService": frozenset({"Search", "Retrieve", "Suggest"}),
    "quarry.v1.ServerService": frozenset({"GetServerInfo"}),
    "quarry.v1.TrainingService": frozenset({"GetLoopReport", "ListLoopReports"}),
    "google.longrunning.Operations": frozenset({"GetOperation", "ListOperations", "WaitOperation"}),
    "grpc.health.v1.Health": frozenset({"Check"}),
}
"""Calls that change nothing, or nothing more when they are made again. What is not listed is made once."""

_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""Waits 0.1, 0.3 and 0.9 s, each with gRPC's jitter, and never beyond the deadline of the call."""


def build_retry_config() -> str:
    """Returns the service config under which gRPC repeats every call that fails with UNAVAILABLE."""
    return json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _POLICY}]})


def is_safe_to_repeat(path: str, request: Any) -> bool:
    """Tells whether a call may reach the server twice without harm.

    Args:
        path: ``/package.Service/Method``.
        request: its message, or an iterator of messages. A write that carries a ``request_id`` is written
            once, however often it arrives.
    """
    _, service, method = path.split("/")
    return method in _SAFE.get(service, ()) or bool(getattr(request, "request_id", ""))
