"""Streams over connections that the server cuts after a second: nothing is lost or written twice."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.integration.api.helpers.served import CALL_S, Api, served, tiny_settings

from quarry.client import AsyncClient, Client, QuarryCallError
from quarry.client.upserts import Batch
from quarry.v1 import document_service_pb2, feedback_service_pb2, server_service_pb2, types_pb2

AGE_S, GRACE_S = 1.0, 0.3
COUNT, PAUSE_S = 24, 0.25
"""A stream of ``COUNT`` batches, so slow that connections end four times and more meanwhile."""
Batches = list[Batch]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    connections = {"age_s": AGE_S, "age_grace_s": GRACE_S}
    folder = tmp_path_factory.mktemp("aged")
    with served(tiny_settings(folder, Path("none"), connections=connections)) as running:
        yield running


def make_batches() -> Batches:
    """One document a batch. Their request ids are known, so a test can tell what arrived."""
    batches = []
    for number in range(COUNT):
        document = types_pb2.Document(id=f"d{number}")
        document.fields["text"].string_value = f"text {number}"
        batches.append(Batch(f"request-{number}", [document]))
    return batches


def make_event_batches(api: Api, name: str) -> list[list[feedback_service_pb2.Event]]:
    """One event a batch, about an answer of a new collection."""
    api.create(name, encoder="none")
    token = api.search(name, "anything").attribution_token
    kind = feedback_service_pb2.EVENT_TYPE_OTHER
    return [
        [feedback_service_pb2.Event(event_id=f"e{n}", type=kind, action="read", attribution_token=token)]
        for n in range(COUNT)
    ]


def slowly(batches: list[Any]) -> Iterator[Any]:
    waiting = threading.Event()
    for batch in batches:
        waiting.wait(PAUSE_S)  # the slowness is what is tested
        yield batch


async def slowly_later(batches: list[Any]) -> AsyncIterator[Any]:
    for batch in batches:
        await asyncio.sleep(PAUSE_S)
        yield batch


def check_documents(api: Api, name: str, written: list[tuple[Batch, Any]], batches: Batches) -> None:
    assert [batch for batch, _ in written] == batches
    assert all(not response.statuses[0].status.code for _, response in written)
    sequences = [response.result.sequence for _, response in written]
    assert sequences == list(range(1, COUNT + 1)), "each batch was written once, in order"
    request = document_service_pb2.ListDocumentsRequest(collection=name, page_size=1_000)
    listed = api.documents.ListDocuments(request, timeout=CALL_S).documents
    assert {document.id for document in listed} == {f"d{n}" for n in range(COUNT)}


def check_events(api: Api, name: str, recorded: list[tuple[Any, Any]], batches: list[Any]) -> None:
    assert [batch for batch, _ in recorded] == batches
    assert all(not status.status.code for _, response in recorded for status in response.statuses)
    request = feedback_service_pb2.GetFeedbackStatsRequest(collection=name)
    stats = api.feedback.GetFeedbackStats(request, timeout=CALL_S)
    assert sum(kind.count for kind in stats.events) == COUNT


def test_a_stream_that_is_open_too_long_is_cut(api: Api) -> None:
    """Whoever uses a stub has to open another one: this is what the clients' own calls do."""
    api.create("plain", encoder="none")
    over = threading.Event()

    def requests() -> Iterator[Any]:
        yield document_service_pb2.UpsertDocumentsRequest(config={"collection": "plain"})
        over.wait(CALL_S)

    with Client(api.address) as quarry:
        began = time.monotonic()
        with pytest.raises(QuarryCallError) as cut:
            list(quarry.documents.UpsertDocuments(requests(), timeout=CALL_S))
        over.set()
    assert cut.value.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < CALL_S / 2


def test_documents_of_a_slow_source_are_written_once(api: Api) -> None:
    api.create("slow", encoder="none")
    batches = make_batches()
    began = time.monotonic()
    with Client(api.address) as quarry:
        written = list(quarry.upsert_batches("slow", slowly(batches)))
    assert time.monotonic() - began > 3 * (AGE_S + GRACE_S), "no connection became old"
    check_documents(api, "slow", written, batches)


async def test_documents_of_a_slow_source_are_written_once_by_asyncio(api: Api) -> None:
    api.create("slow-async", encoder="none")
    batches = make_batches()
    async with AsyncClient(api.address) as quarry:
        written = [one async for one in quarry.upsert_batches("slow-async", slowly_later(batches))]
    check_documents(api, "slow-async", written, batches)


def test_events_of_a_slow_source_are_recorded_once(api: Api) -> None:
    batches = make_event_batches(api, "events")
    with Client(api.address) as quarry:
        recorded = list(quarry.record_event_batches("events", slowly(batches)))
    check_events(api, "events", recorded, batches)


async def test_events_of_a_slow_source_are_recorded_once_by_asyncio(api: Api) -> None:
    batches = make_event_batches(api, "events-async")
    async with AsyncClient(api.address) as quarry:
        recorded = [one async for one in quarry.record_event_batches("events-async", slowly_later(batches))]
    check_events(api, "events-async", recorded, batches)


def test_the_server_says_how_old_connections_become(api: Api) -> None:
    request = server_service_pb2.GetServerInfoRequest()
    limits = api.server.GetServerInfo(request, timeout=CALL_S).limits
    assert limits.connection_age.ToTimedelta().total_seconds() == AGE_S
    assert limits.connection_age_grace.ToTimedelta().total_seconds() == GRACE_S
