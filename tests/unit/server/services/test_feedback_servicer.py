"""FeedbackService: what it reads of events and logs, what it counts, and what it refuses."""

from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.feedback import CLICK, RENDERED, click, problem, record, stats, waited
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.v1 import feedback_service_pb2 as pb

LINES = (
    b'{"impression": {"search_id": "s", "time": "2025-01-01T10:00:00Z", "query": "q", '
    b'"hits": [{"id": "d1"}]}}\n'
    b'{"event": {"event_id": "e", "type": "click", "search_id": "s", "time": "2025-01-01T10:00:05Z", '
    b'"document_id": "d1"}}\n'
    b"nonsense\n"
)
QUARRY = pb.FEEDBACK_FORMAT_QUARRY


def test_events_are_recorded_once_each_and_counted(api: Api, faq: str) -> None:
    answer = api.search(faq, "red", context={"user_id": "u", "session_id": "s"})
    chosen = click(answer, 1)
    forged = pb.Event(event_id="forged", type=CLICK, document_id="d1", attribution_token="forged")  # noqa: S106
    first, again, wrong = record(api, faq, chosen, chosen, forged)
    assert [(one.event_id, one.status.code, one.duplicate) for one in (first, again)] == [
        (chosen.event_id, 0, False),
        (chosen.event_id, 0, True),
    ]
    assert problem(wrong) == "events[2].attribution_token"
    found = stats(api, faq)
    assert (found.impressions, found.simulated_impressions, found.dropped_impressions) == (1, 0, 0)
    assert [(one.type, one.mark, one.count) for one in found.events] == [
        (CLICK, pb.EVENT_MARK_UNSPECIFIED, 1)
    ]
    assert [(one.rank, one.displayed, one.clicked) for one in found.ranks] == [
        (1, 1, 0),
        (2, 1, 1),
        (3, 1, 0),
    ]
    assert (found.queries, found.users, found.sessions) == (1, 1, 1)
    assert found.HasField("first_time") and found.HasField("last_time")


def test_a_collection_without_feedback_has_counts_of_nothing(api: Api, faq: str) -> None:
    assert stats(api, faq) == pb.GetFeedbackStatsResponse()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"type": pb.EVENT_TYPE_UNSPECIFIED}, "type"),
        ({"document_id": ""}, "document_id"),
        ({"user_id": "u" * 1_000}, "user_id"),
        (
            {"type": RENDERED, "document_id": "", "rendered": [{"document_id": "d1", "position": -1}]},
            "rendered[0].position",
        ),
    ],
)
def test_a_wrong_event_is_named_and_the_others_are_kept(
    api: Api, faq: str, changes: dict[str, Any], field: str
) -> None:
    answer = api.search(faq, "red")
    wrong, right = record(api, faq, click(answer, **changes), click(answer))
    assert problem(wrong) == f"events[0].{field}"
    assert right.status.code == 0


def test_a_click_on_an_answer_of_one_collection_is_no_feedback_on_another(api: Api, faq: str) -> None:
    other = api.create(f"{faq}-other", encoder="none").name
    answer = api.search(faq, "red")
    refusal, counted = record(api, other, click(answer))[0], record(api, faq, click(answer))[0]
    assert problem(refusal) == "events[0].attribution_token"
    assert counted.status.code == 0
    assert stats(api, other) == pb.GetFeedbackStatsResponse()


def test_a_stream_opens_with_its_collection_and_answers_each_batch(api: Api, faq: str) -> None:
    answer = api.search(faq, "red")
    config = pb.StreamEventsRequest(config={"collection": faq})
    batches = [pb.StreamEventsRequest(batch={"events": [click(answer, n)]}) for n in range(2)]
    answers = list(api.feedback.StreamEvents(iter([config, *batches]), timeout=CALL_S))
    assert [[one.status.code for one in answer.statuses] for answer in answers] == [[0], [0]]

    def stream(requests: Any, timeout: float) -> list[Any]:
        return list(api.feedback.StreamEvents(iter(requests), timeout=timeout))

    for messages in (batches, [config, config], [config, pb.StreamEventsRequest()]):
        assert refused(stream, messages).field == "message"
    lost = pb.StreamEventsRequest(config={"collection": "none"})
    assert refused(stream, [lost]).code is grpc.StatusCode.NOT_FOUND


def import_messages(collection: str, data: bytes, form: int = QUARRY) -> list[pb.ImportEventsRequest]:
    """The file in two pieces that cut through a line."""
    config = pb.ImportEventsRequest(config={"collection": collection, "format": form, "simulated": True})  # type: ignore[arg-type]
    return [config, *(pb.ImportEventsRequest(data=piece) for piece in (data[:150], data[150:]))]


def test_an_imported_log_is_counted_and_its_bad_lines_are_told(api: Api, faq: str) -> None:
    started = api.feedback.ImportEvents(iter(import_messages(faq, LINES)), timeout=CALL_S)
    found = waited(api, started, pb.ImportEventsResponse())
    assert (found.lines, found.impressions, found.events, found.duplicates, found.rejected) == (3, 1, 1, 0, 1)
    assert (found.rejections[0].line, "JSON" in found.rejections[0].reason) == (3, True)
    assert stats(api, faq).simulated_impressions == 1


def test_an_import_that_cannot_be_one_is_refused_before_it_begins(api: Api, faq: str) -> None:
    def send(requests: Any, timeout: float) -> Any:
        return api.feedback.ImportEvents(iter(requests), timeout=timeout)

    config, data, _ = import_messages(faq, LINES)
    for messages, field in (
        ([], "message"),
        ([data], "message"),
        ([config, config], "message"),
        ([config, pb.ImportEventsRequest()], "message"),
        (import_messages(faq, LINES, form=0), "config.format"),
    ):
        assert refused(send, messages).field == field
    assert refused(send, import_messages("none", LINES)).code is grpc.StatusCode.NOT_FOUND


def test_a_purge_deletes_what_one_person_did_and_needs_to_be_told_what(api: Api, faq: str) -> None:
    for user in ("kept", "gone"):
        answer = api.search(faq, "red", context={"user_id": user})
        assert record(api, faq, click(answer))[0].status.code == 0
    stats(api, faq)
    request = pb.PurgeFeedbackRequest(collection=faq, user_id="gone")
    purged = waited(api, api.feedback.PurgeFeedback(request, timeout=CALL_S), pb.PurgeFeedbackResponse())
    assert (purged.impressions, purged.events, list(purged.models)) == (1, 1, [])
    found = stats(api, faq)
    assert (found.impressions, found.users) == (1, 1)
    for wrong, field in (
        ({}, "user_id"),
        ({"start_time": {"seconds": 1_700_000_000}, "end_time": {"seconds": 1_700_000_000}}, "end_time"),
        ({"start_time": {"nanos": -1}}, "start_time"),
        ({"user_id": "u" * 1_000}, "user_id"),
    ):
        refusal = refused(api.feedback.PurgeFeedback, pb.PurgeFeedbackRequest(collection=faq, **wrong))
        assert refusal.field == field
