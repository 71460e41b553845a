"""Logs imported through the API: spooled, read in the background, repeatable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from tests.integration.api.helpers.served import CALL_S, Api, failure, served, tiny_settings

from quarry.v1 import feedback_service_pb2 as pb

QUARRY, UBI = pb.FEEDBACK_FORMAT_QUARRY, pb.FEEDBACK_FORMAT_UBI
LINES = (
    b'{"impression": {"search_id": "s", "time": "2025-01-01T10:00:00Z", "query": "q", '
    b'"hits": [{"id": "a"}]}}\n'
    b'{"event": {"event_id": "e", "type": "click", "search_id": "s", "time": "2025-01-01T10:00:05Z", '
    b'"document_id": "a"}}\n'
    b"nonsense\n"
)


def messages(collection: str, data: bytes, form: int = QUARRY, **config: Any) -> Iterator[Any]:
    """The file in pieces that cut through its lines."""
    yield pb.ImportEventsRequest(config={"collection": collection, "format": form, **config})
    for start in range(0, len(data), 37):
        yield pb.ImportEventsRequest(data=data[start : start + 37])


def imported(api: Api, collection: str, data: bytes, **config: Any) -> pb.ImportEventsResponse:
    started = api.feedback.ImportEvents(messages(collection, data, **config), timeout=CALL_S)
    wait = operations_pb2.WaitOperationRequest(name=started.name)
    done = api.operations.WaitOperation(wait, timeout=CALL_S)
    metadata, response = pb.ImportEventsMetadata(), pb.ImportEventsResponse()
    assert done.metadata.Unpack(metadata)
    assert metadata.collection == collection
    assert metadata.progress == 1
    assert done.response.Unpack(response), done
    return response


def test_an_import_counts_and_repeating_it_adds_nothing(api: Api, lexical: str) -> None:
    api.upsert(lexical, {"a": {"text": "apples"}})
    first = imported(api, lexical, LINES, simulated=True)
    assert (first.lines, first.impressions, first.events) == (3, 1, 1)
    assert (first.duplicates, first.rejected) == (0, 1)
    assert (first.rejections[0].line, "is not JSON" in first.rejections[0].reason) == (3, True)
    again = imported(api, lexical, LINES, simulated=True)
    assert (again.impressions, again.events, again.duplicates, again.rejected) == (0, 0, 2, 1)
    stats = api.feedback.GetFeedbackStats(pb.GetFeedbackStatsRequest(collection=lexical), timeout=CALL_S)
    assert (stats.impressions, stats.simulated_impressions, stats.texts) == (1, 1, 1)
    assert [(rank.displayed, rank.clicked) for rank in stats.ranks] == [(1, 1)]


def test_an_empty_file_is_no_mistake(api: Api, lexical: str) -> None:
    for form in (QUARRY, UBI):
        assert imported(api, lexical, b"", form=form) == pb.ImportEventsResponse()


@pytest.mark.parametrize(
    ("stream", "field"),
    [
        ([], "message"),
        ([{"data": b"x"}], "message"),
        ([{"config": {"collection": "c", "format": 1}}] * 2, "message"),
        ([{"config": {"collection": "c", "format": 1}}, {}], "message"),
        ([{"config": {"collection": "c"}}], "config.format"),
        ([{"config": {"collection": "c", "format": 7}}], "config.format"),
    ],
)
def test_a_stream_that_is_none_is_refused(api: Api, lexical: str, stream: list[Any], field: str) -> None:
    requests = [pb.ImportEventsRequest(**one) for one in stream]
    for request in requests:
        if request.config.collection:
            request.config.collection = lexical
    with pytest.raises(grpc.RpcError) as caught:
        api.feedback.ImportEvents(iter(requests), timeout=CALL_S)
    found = failure(caught.value)
    assert (found.code, found.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_spooled_files_are_gone_afterwards_and_after_a_crash(tmp_path: Path, encoder_folder: Path) -> None:
    folder = tmp_path / "data" / "imports"
    folder.mkdir(parents=True)
    (folder / "left-behind").write_bytes(LINES)
    with served(tiny_settings(tmp_path / "data", encoder_folder)) as api:
        assert not list(folder.iterdir())
        api.create("own", encoder="none")
        imported(api, "own", LINES)
        with pytest.raises(grpc.RpcError):
            broken = [*messages("own", LINES), pb.ImportEventsRequest()]
            api.feedback.ImportEvents(iter(broken), timeout=CALL_S)
        assert not list(folder.iterdir())
