"""Impressions, events and tokens through the API."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.feedback import (
    QUERY,
    RENDERED,
    VIEW,
    click,
    filled,
    logged,
    problem,
    record,
    stats,
)
from tests.integration.api.helpers.served import CALL_S, Api, refused

from quarry.feedback.reading.observed_pages import read_observed_pages, read_texts
from quarry.v1 import feedback_service_pb2 as pb
from quarry.v1 import search_service_pb2

# impressions


def test_an_impression_holds_what_was_given_out(new_server: Any, folder: Path) -> None:
    context = search_service_pb2.SearchContext(
        user_id="u", session_id="v", surface="side-bar", layout="list", attributes={"a": "b"}
    )
    with new_server(pool_depth=20) as api:
        answer = api.search(filled(api), f" {QUERY} ", page_size=5, context=context, explain=True)
        assert stats(api, "own").impressions == 1
    (one,) = logged(folder)
    assert (one.search_id, one.offset, one.query) == (answer.search_id, 0, QUERY)
    assert (one.generation, one.configuration) == (answer.generation, answer.ranking_configuration)
    assert (one.policy, one.source, one.reranker, one.depth) == ("none", "live", "", 0)
    assert one.context.user_id == "u"
    assert (one.context.surface, one.context.layout, dict(one.context.attributes)) == (
        "side-bar", "list", {"a": "b"},
    )  # fmt: skip
    assert [(h.document_id, h.rank, h.score, h.version) for h in one.shown] == [
        (hit.document.id, hit.rank, hit.score, hit.document.version) for hit in answer.hits
    ]
    for kept, hit in zip(one.shown, answer.hits, strict=True):
        explained = {a.arm: (a.rank, a.score) for a in hit.explanation.arms if a.HasField("score")}
        assert {arm: place for arm, place in kept.arms.items() if place[1] is not None} == explained
        assert kept.fused_score == hit.explanation.fused_score
    assert [hit.rank for hit in one.pool] == list(range(1, 21))
    assert [hit.document_id for hit in one.pool[:5]] == [hit.document_id for hit in one.shown]
    contents = {hit.content for hit in (*one.shown, *one.pool)}
    assert len(read_texts(folder / "feedback.db", sorted(contents))) == len(contents)


def test_the_text_that_was_ranked_is_kept_after_the_document_changes(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        api.create("own", encoder="none")
        api.upsert("own", {"a": {"title": "Old title", "text": "some words"}})
        api.search("own", "words")
        assert stats(api, "own").texts == 1
        api.upsert("own", {"a": {"title": "New title", "text": "some words"}})
        api.search("own", "words")
        assert stats(api, "own").texts == 2
        api.delete("own", "a")
    pages = list(read_observed_pages(folder / "feedback.db", 1))
    texts = [read_texts(folder / "feedback.db", page.contents)[page.contents[0]] for page in pages]
    assert texts == ["Old title\nsome words", "New title\nsome words"]


def test_each_page_given_out_is_an_impression_with_its_own_token(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        first = api.search(filled(api), QUERY, page_size=4)
        second = api.search("own", QUERY, page_size=3, page_token=first.next_page_token)
        assert record(api, "own", click(second, 1))[0].status.code == 0
        assert len({first.attribution_token, second.attribution_token}) == 2
    a, b = logged(folder)
    assert (a.offset, b.offset, a.search_id) == (0, 4, b.search_id)
    assert [hit.rank for hit in b.shown] == [5, 6, 7]
    assert [hit.document_id for hit in b.shown] == [hit.document.id for hit in second.hits]
    assert (len(a.pool), b.pool) == (50, ())
    pages = {page.ranks[0]: page for page in read_observed_pages(folder / "feedback.db", 1)}
    assert pages[1].clicked == (False,) * 4
    assert pages[5].clicked == (False, True, False)


def test_an_explored_order_holds_over_pages_and_is_logged(new_server: Any, folder: Path) -> None:
    exploration = search_service_pb2.Exploration(swap_probability=0.5, depth=9)
    with new_server() as api:
        filled(api)
        plain = {hit.document.id: hit for hit in api.search("own", QUERY, page_size=20, unlogged=True).hits}
        before = list(plain)
        for _ in range(8):
            answers = [api.search("own", QUERY, page_size=4, exploration=exploration)]
            while len(answers) < 4:
                token = answers[-1].next_page_token
                answers.append(
                    api.search("own", QUERY, page_size=4, exploration=exploration, page_token=token)
                )
            hits = [hit for answer in answers for hit in answer.hits]
            shown = [hit.document.id for hit in hits]
            assert [hit.rank for hit in hits] == list(range(1, 17))
            assert sorted(shown) == sorted(before[:16])
            assert all(abs(shown.index(id) - n) <= 1 for n, id in enumerate(before[:16]))
            assert shown[9:] == before[9:16]
            assert all(hit.score == pytest.approx(plain[hit.document.id].score) for hit in hits)
        stats(api, "own")
    impressions = logged(folder)
    assert len(impressions) == 8 * 4
    assert {i.policy for i in impressions} == {"fair-pairs:0.5:9"}
    assert len({i.seed for i in impressions}) == 8
    moved = 0
    for impression in impressions:
        for hit in impression.shown:
            assert before[hit.rank_before - 1] == hit.document_id
            edge = hit.rank_before in (1, 9)
            stays = 1.0 if hit.rank_before > 9 else 0.75 if edge else 0.5
            assert hit.rank_probability == (stays if hit.rank == hit.rank_before else 0.25)
            moved += hit.rank != hit.rank_before
    assert moved


def test_a_re_ranked_search_logs_both_orders(
    new_server: Any, folder: Path, cross_encoder_folder: Path
) -> None:
    with new_server(pool_depth=12) as api:
        filled(api, reranker=str(cross_encoder_folder))
        rerank = search_service_pb2.Rerank(depth=6)
        answer = api.search("own", QUERY, page_size=8, rerank=rerank, explain=True)
        stats(api, "own")
    (one,) = logged(folder)
    assert (one.reranker, one.depth) == (str(cross_encoder_folder), 6)
    assert [h.rerank_score is None for h in one.shown] == [False] * 6 + [True] * 2
    assert [h.rerank_score for h in one.shown[:6]] == [h.explanation.rerank_score for h in answer.hits[:6]]
    assert [h.rank for h in one.pool] == list(range(1, 13))
    assert {h.document_id for h in one.pool[:6]} == {h.document_id for h in one.shown[:6]}


def test_an_unlogged_search_leaves_nothing(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        answer = api.search(filled(api), QUERY, unlogged=True)
        assert (answer.attribution_token, answer.hits[0].rank) == ("", 1)
        found = stats(api, "own")
        assert (found.impressions, found.texts, found.dropped_impressions) == (0, 0, 0)
    assert logged(folder) == []


def test_the_pool_is_logged_at_its_rate(new_server: Any, folder: Path) -> None:
    with new_server(pool_rate=0.0) as api:
        api.search(filled(api), QUERY)
        stats(api, "own")
    (one,) = logged(folder)
    assert (one.pool, one.pool_rate) == ((), 0.0)


def test_a_clean_shutdown_writes_what_waits(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        filled(api)
        for _ in range(30):
            api.search("own", QUERY)
    assert len(logged(folder)) == 30


def test_what_does_not_fit_the_buffer_is_counted(new_server: Any, folder: Path) -> None:
    with new_server(buffer_pages=1) as api:
        filled(api)
        calls = [
            api.searches.Search.future(
                search_service_pb2.SearchRequest(collection="own", query=QUERY), timeout=CALL_S
            )
            for _ in range(60)
        ]
        assert all(call.result().attribution_token for call in calls)
        found = stats(api, "own")
        assert found.dropped_impressions > 0
        assert found.impressions + found.dropped_impressions == 60


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"context": {"user_id": "x" * 129}}, "context.user_id"),
        ({"context": {"session_id": "a\nb"}}, "context.session_id"),
        ({"context": {"surface": "x" * 101}}, "context.surface"),
        ({"context": {"attributes": {str(n): "" for n in range(33)}}}, "context.attributes"),
        ({"context": {"attributes": {"a": "x" * 1025}}}, "context.attributes"),
        ({"exploration": {"swap_probability": 0.6}}, "exploration.swap_probability"),
        ({"exploration": {"swap_probability": float("nan")}}, "exploration.swap_probability"),
        ({"exploration": {"swap_probability": 0.1, "depth": 1}}, "exploration.depth"),
    ],
)
def test_a_bad_context_or_exploration_is_named(api: Api, corpus: str, values: Any, field: str) -> None:
    request = search_service_pb2.SearchRequest(collection=corpus, query="a", **values)
    assert refused(api.searches.Search, request).field == field


# events


def test_an_event_is_stored_once(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        answer = api.search(filled(api), QUERY)
        event = click(answer)
        other = click(answer, event_id=event.event_id, hit=1)
        first = record(api, "own", event, other)
        assert [(s.event_id, s.status.code, s.duplicate) for s in first] == [
            (event.event_id, 0, False), (event.event_id, 0, True),
        ]  # fmt: skip
        assert record(api, "own", event)[0].duplicate
    with new_server() as api:
        assert record(api, "own", event)[0].duplicate
        assert sum(one.count for one in stats(api, "own").events) == 1
    (page,) = read_observed_pages(folder / "feedback.db", 1)
    assert page.clicked == (True,) + (False,) * 9


def test_a_bad_event_does_not_stop_the_others(api: Api, corpus: str) -> None:
    answer = api.search(corpus, QUERY)
    statuses = record(api, corpus, click(answer), click(answer, event_id=""), click(answer, 1))
    assert [status.status.code for status in statuses] == [0, 3, 0]
    assert problem(statuses[1]) == "events[1].event_id"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"event_id": "x" * 65}, "event_id"),
        ({"event_id": "é"}, "event_id"),
        ({"event_id": "a b"}, "event_id"),
        ({"type": 0}, "type"),
        ({"type": 99}, "type"),
        ({"document_id": ""}, "document_id"),
        ({"document_id": "x" * 513}, "document_id"),
        ({"document_id": "a\x00"}, "document_id"),
        ({"event_time": {"seconds": 946_684_799}}, "event_time"),
        ({"event_time": {"seconds": 253_402_300_800}}, "event_time"),
        ({"event_time": {"seconds": 10**9, "nanos": -1}}, "event_time"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"session_id": "\x1b"}, "session_id"),
        ({"attributes": {"": "x"}}, "attributes"),
        ({"attributes": {"a": "x" * 1_025}}, "attributes"),
        ({"value": 1.0}, "value"),
        ({"dwell": {"seconds": 1}}, "dwell"),
        ({"action": "x"}, "action"),
        ({"rendered": [{"document_id": "a"}]}, "rendered"),
        ({"type": VIEW, "dwell": {"seconds": -1}}, "dwell"),
        ({"type": VIEW, "dwell": {"seconds": 86_401}}, "dwell"),
        ({"type": pb.EVENT_TYPE_RATING}, "value"),
        ({"type": pb.EVENT_TYPE_RATING, "value": 1.1}, "value"),
        ({"type": pb.EVENT_TYPE_RATING, "value": float("nan")}, "value"),
        ({"type": pb.EVENT_TYPE_CONVERSION, "value": float("inf")}, "value"),
        ({"type": pb.EVENT_TYPE_OTHER}, "action"),
        ({"type": pb.EVENT_TYPE_OTHER, "action": "x" * 101}, "action"),
        ({"type": RENDERED}, "rendered"),
        ({"type": RENDERED, "rendered": [{"document_id": "a"}] * 1_001}, "rendered"),
        ({"type": RENDERED, "rendered": [{"document_id": "a", "position": -1}]}, "rendered[0].position"),
        ({"type": RENDERED, "rendered": [{"document_id": "a", "position": 1001}]}, "rendered[0].position"),
        ({"type": RENDERED, "rendered": [{"document_id": ""}]}, "rendered[0].document_id"),
        ({"attribution_token": "x" * 513}, "attribution_token"),
    ],
)
def test_what_is_wrong_with_an_event_is_named(api: Api, corpus: str, values: Any, field: str) -> None:
    event = click(api.search(corpus, QUERY))
    for name in values:
        event.ClearField(name)
    event.MergeFrom(pb.Event(**values))
    (status,) = record(api, corpus, event)
    assert problem(status) == f"events[0].{field}"


def test_a_token_is_good_for_its_own_collection_and_server(
    api: Api, corpus: str, reranked: str, new_server: Any
) -> None:
    answer = api.search(corpus, QUERY)
    (status,) = record(api, reranked, click(answer))
    assert problem(status) == "events[0].attribution_token"
    for wrong in ("", "AAAA", answer.attribution_token[:-1], answer.attribution_token.swapcase()):
        (status,) = record(api, corpus, click(answer, attribution_token=wrong) if wrong else _bare(answer))
        assert problem(status) == "events[0].attribution_token"
    with new_server() as other:
        (status,) = record(other, filled(other), click(answer))
        assert problem(status) == "events[0].attribution_token"


def _bare(answer: search_service_pb2.SearchResponse) -> pb.Event:
    event = click(answer)
    event.ClearField("attribution_token")
    return event


def test_too_many_events_are_refused_as_one(api: Api, corpus: str) -> None:
    request = pb.RecordEventsRequest(collection=corpus, events=[pb.Event()] * 1_001)
    assert refused(api.feedback.RecordEvents, request).field == "events"
    assert list(record(api, corpus)) == []
    request = pb.RecordEventsRequest(collection="no-such")
    assert refused(api.feedback.RecordEvents, request).code is grpc.StatusCode.NOT_FOUND


def test_rendered_events_set_what_was_displayed(new_server: Any, folder: Path) -> None:
    with new_server() as api:
        answer = api.search(filled(api), QUERY, page_size=3)
        rendered = [{"document_id": answer.hits[n].document.id, "position": n + 5} for n in (0, 1)]
        seen = click(answer, type=RENDERED, document_id="", rendered=rendered)
        assert record(api, "own", seen)[0].status.code == 0
    (page,) = read_observed_pages(folder / "feedback.db", 1)
    assert (page.rendered, page.displayed, page.ranks) == (True, (True, True, False), (5, 6, 3))


def test_batches_of_a_stream_are_acknowledged_in_order_and_may_be_sent_again(new_server: Any) -> None:
    with new_server() as api:
        answer = api.search(filled(api), QUERY)
        batches = [[click(answer, n), click(answer, n, type=VIEW)] for n in range(6)]

        def sent(order: Sequence[int]) -> list[list[tuple[str, bool]]]:
            messages = [pb.StreamEventsRequest(config={"collection": "own"})]
            messages += [pb.StreamEventsRequest(batch={"events": batches[n]}) for n in order]
            answers = api.feedback.StreamEvents(iter(messages), timeout=CALL_S)
            return [[(s.event_id, s.duplicate) for s in answer.statuses] for answer in answers]

        def expected(order: Sequence[int], duplicate: bool) -> list[list[tuple[str, bool]]]:
            return [[(event.event_id, duplicate) for event in batches[n]] for n in order]

        assert sent([4, 0, 2]) == expected([4, 0, 2], False)
        assert sent([2, 0, 4]) == expected([2, 0, 4], True)
        assert sent([0, 1, 3, 5]) == [*expected([0], True), *expected([1, 3, 5], False)]
        assert sum(one.count for one in stats(api, "own").events) == 12


def test_a_stream_names_the_field_of_its_batch(api: Api, corpus: str) -> None:
    messages = [
        pb.StreamEventsRequest(config={"collection": corpus}),
        pb.StreamEventsRequest(batch={"events": [pb.Event()] * 1_001}),
    ]
    with pytest.raises(grpc.RpcError) as caught:
        list(api.feedback.StreamEvents(iter(messages), timeout=CALL_S))
    assert caught.value.details().startswith("batch.events:")
