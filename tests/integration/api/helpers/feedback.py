"""Searches, events and what the log holds of them, for tests of feedback."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2
from tests.integration.api.helpers.corpus import SCHEMA_MESSAGE, WORDS, seeded_documents
from tests.integration.api.helpers.served import CALL_S, Api, checked_status

from quarry.feedback.rows import read_impression
from quarry.feedback.tables import read_feedback
from quarry.feedback.types import Impression
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import search_service_pb2

CLICK, RENDERED, VIEW = pb.EVENT_TYPE_CLICK, pb.EVENT_TYPE_RENDERED, pb.EVENT_TYPE_VIEW
QUERY = f"{WORDS[0]} {WORDS[5]}"


def filled(api: Api, name: str = "own", **settings: Any) -> str:
    api.create(name, schema=SCHEMA_MESSAGE, **settings)
    api.upsert(name, seeded_documents())
    return name


def stats(api: Api, collection: str) -> pb.GetFeedbackStatsResponse:
    """Also waits until what was answered is written."""
    return api.feedback.GetFeedbackStats(pb.GetFeedbackStatsRequest(collection=collection), timeout=CALL_S)


def logged(folder: Path, key: int = 1) -> list[Impression]:
    engine = read_feedback(folder / "feedback.db")
    with engine.connect() as connection:
        query = "SELECT * FROM impressions WHERE collection_id = ? ORDER BY id"
        rows = connection.exec_driver_sql(query, (key,)).all()
    engine.dispose()
    return [read_impression(row) for row in rows]


_numbers = itertools.count(1)


def click(answer: search_service_pb2.SearchResponse, hit: int = 0, **values: Any) -> pb.Event:
    own = {"attribution_token": answer.attribution_token, "event_id": f"event-{next(_numbers)}"}
    hit_id = answer.hits[hit].document.id
    return pb.Event(**{**own, "type": CLICK, "document_id": hit_id, **values})


def record(api: Api, collection: str, *events: pb.Event) -> Sequence[pb.EventStatus]:
    request = pb.RecordEventsRequest(collection=collection, events=events)
    return api.feedback.RecordEvents(request, timeout=CALL_S).statuses


def problem(status: pb.EventStatus) -> str:
    """The field that a refused event was refused for."""
    assert status.status.code, status
    return checked_status(status.status, grpc.StatusCode.INVALID_ARGUMENT).field


def waited(api: Api, operation: operations_pb2.Operation, response: Any) -> Any:
    wait = operations_pb2.WaitOperationRequest(name=operation.name)
    done = api.operations.WaitOperation(wait, timeout=CALL_S)
    assert done.done
    assert not done.HasField("error"), done.error
    assert done.response.Unpack(response)
    return response
