"""Streamed upserts: split by bytes, acknowledged in order, continued after a break."""

import asyncio
import math
import threading

import grpc
import pytest

from quarry.client import (
    AsyncClient,
    Client,
    DocumentsRefusedError,
    ProtocolError,
    QuarryCallError,
    StreamStalledError,
    streams,
    upserts,
)
from quarry.v1 import document_service_pb2 as pb
from quarry.v1 import types_pb2


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(streams, "BACKOFF_S", 0.0)


def documents(count, size=500):
    for number in range(count):
        document = types_pb2.Document(id=f"d{number}")
        document.fields["text"].string_value = "x" * size
        yield document


async def documents_later(count, size=500):
    for document in documents(count, size):
        yield document


class SyncCalls:
    """The synchronous client, called as the asynchronous one."""

    def __init__(self, address):
        self.address = address

    async def upsert(self, *arguments, **named):
        with Client(self.address) as quarry:
            return quarry.upsert(*arguments, **named)


class AsyncCalls(SyncCalls):
    async def upsert(self, *arguments, **named):
        async with AsyncClient(self.address) as quarry:
            return await quarry.upsert(*arguments, **named)


@pytest.fixture(params=[SyncCalls, AsyncCalls])
def quarry(request, server):
    return request.param(server.address)


async def test_batches_stay_below_their_bytes_and_keep_the_order(quarry, server):
    summary = await quarry.upsert(
        "faq", documents(60), batch_bytes=2_000, wait=pb.WRITE_VISIBILITY_SEARCHABLE
    )
    assert (summary.written, summary.refused, summary.sequence) == (60, 0, 10 * len(server.batches))
    assert summary.reached == pb.WRITE_VISIBILITY_SEARCHABLE
    assert len(server.batches) == 20
    assert all(sum(d.ByteSize() for d in batch.documents) <= 2_000 for batch in server.batches)
    assert [d.id for batch in server.batches for d in batch.documents] == [f"d{i}" for i in range(60)]
    assert server.configs == [pb.UpsertDocumentsConfig(collection="faq", wait=pb.WRITE_VISIBILITY_SEARCHABLE)]


async def test_a_document_larger_than_a_batch_travels_alone(quarry, server):
    await quarry.upsert("faq", [*documents(1, 10), *documents(1, 5_000), *documents(1, 10)], batch_bytes=100)
    assert [len(batch.documents) for batch in server.batches] == [1, 1, 1]


async def test_no_batch_has_more_than_500_documents(quarry, server):
    await quarry.upsert("faq", documents(1_001, 1))
    assert [len(batch.documents) for batch in server.batches] == [500, 500, 1]


async def test_no_document_is_no_error(quarry, server):
    summary = await quarry.upsert("faq", [])
    assert (summary.written, summary.sequence, server.batches) == (0, 0, [])


@pytest.mark.parametrize("broken", [{1}, {3}, {2, 4}])
async def test_a_stream_that_breaks_goes_on_under_the_same_request_ids(quarry, server, broken):
    server.breaks_before = set(broken)
    summary = await quarry.upsert("faq", documents(20), batch_bytes=1_100)
    assert summary.written == 20
    assert server.calls["UpsertDocuments"] == 1 + len(broken)
    ids = {batch.request_id: [d.id for d in batch.documents] for batch in server.batches}
    assert sorted(d for some in ids.values() for d in some) == sorted(f"d{i}" for i in range(20))
    assert len(server.batches) > len(ids)  # a batch was indeed sent again


async def test_a_server_that_stays_away_is_given_up(quarry, server):
    server.unavailable = 1_000
    with pytest.raises(QuarryCallError, match="shutting down"):
        await quarry.upsert("faq", documents(3))
    assert server.calls["UpsertDocuments"] == 1 + streams.RETRIES


async def test_a_refused_stream_is_not_opened_again(quarry, server, wrong_field):
    server.status = wrong_field
    with pytest.raises(QuarryCallError) as caught:
        await quarry.upsert("faq", documents(3))
    assert caught.value.field == "documents[3].fields.price"
    assert server.calls["UpsertDocuments"] == 1


async def test_documents_that_were_not_written_are_an_error_after_all_others_were(quarry, server):
    server.refused = {"d1", "d7"}
    with pytest.raises(
        DocumentsRefusedError, match=r"2 documents were not written, 8 were.*'d1': year: is no"
    ) as e:
        await quarry.upsert("faq", documents(10), batch_bytes=1_100)
    assert [status.id for status in e.value.summary.refusals] == ["d1", "d7"]
    assert e.value.summary.written == 8


async def test_a_server_that_acknowledges_nothing_is_given_up(quarry, server):
    server.silent = True
    with pytest.raises(StreamStalledError, match=r"no batch was acknowledged for 0\.2 s"):
        await quarry.upsert("faq", documents(3), timeout_s=0.2)


async def test_documents_may_come_one_by_one_from_asyncio(server):
    async with AsyncClient(server.address) as quarry:
        summary = await quarry.upsert("faq", documents_later(5), batch_bytes=1_100)
    assert (summary.written, len(server.batches)) == (5, 3)


def test_an_acknowledgement_of_another_batch_breaks_the_protocol():
    window = streams.Window(4, lambda batch: len(batch.documents))
    window.batches.append(upserts.make_batch(list(documents(2))))
    with pytest.raises(ProtocolError, match="does not fit its batch"):
        window.acknowledge(pb.UpsertDocumentsResponse())
    with pytest.raises(ProtocolError):
        window.acknowledge(None)


def test_only_the_first_hundred_refusals_are_kept():
    summary = upserts.UpsertSummary()
    response = pb.UpsertDocumentsResponse()
    for number in range(150):
        response.statuses.add(id=str(number)).status.code = 3
    summary.add(response)
    summary.add(response)
    assert (summary.refused, len(summary.refusals), summary.written) == (300, upserts.KEPT_REFUSALS, 0)


async def test_documents_that_cannot_be_read_end_the_stream_with_their_own_error(quarry, server):
    def broken():
        yield from documents(4)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await quarry.upsert("faq", broken(), batch_bytes=1_100)
    assert len(server.batches) <= 2


async def test_documents_that_come_from_a_server_that_goes_away_end_the_stream(quarry, server):
    """The stream to the other server is not the one that broke, and half of the documents are not all."""
    lost = QuarryCallError(grpc.StatusCode.UNAVAILABLE, "the source is gone")

    def copy():
        yield from documents(3)
        raise lost

    with pytest.raises(QuarryCallError, match="the source is gone"):
        await quarry.upsert("faq", copy(), batch_bytes=100)
    assert server.calls["UpsertDocuments"] <= 1


def assert_no_thread_is_left():
    for thread in threading.enumerate():
        if thread.name.startswith("upsert"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("turns", range(6))
async def test_an_upsert_that_is_cancelled_before_it_has_begun_ends(server, turns):
    async def never():
        await asyncio.Event().wait()
        yield

    async with AsyncClient(server.address) as quarry, asyncio.timeout(20):
        task = asyncio.create_task(quarry.upsert("faq", never()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert_no_thread_is_left()


async def test_an_infinite_wait_for_an_acknowledgement_is_none(quarry, server, capfd):
    assert (await quarry.upsert("faq", documents(3), timeout_s=math.inf)).written == 3
    assert "Traceback" not in capfd.readouterr().err


async def test_a_cancelled_upsert_ends_its_stream_and_its_thread(server):
    server.silent = True
    async with AsyncClient(server.address) as quarry:
        task = asyncio.create_task(quarry.upsert("faq", documents(3)))
        await asyncio.to_thread(server.arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert_no_thread_is_left()


async def test_an_upsert_cancelled_while_it_waits_for_documents_ends(server):
    waiting = asyncio.Event()

    async def never():
        for document in documents(3):
            yield document
        waiting.set()
        await asyncio.Event().wait()

    async with AsyncClient(server.address) as quarry:
        task = asyncio.create_task(quarry.upsert("faq", never(), batch_bytes=600))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert_no_thread_is_left()


async def test_warnings_of_all_batches_are_one_a_kind(quarry, server):
    unknown, later = pb.UPSERT_WARNING_KIND_UNKNOWN_FIELDS, 99
    server.warnings = [
        pb.UpsertWarning(kind=unknown, document_count=2, fields=["b"], field_count=1, sample_ids=["d0"]),
        pb.UpsertWarning(kind=later, document_count=3, message="of a later server"),
    ]
    summary = await quarry.upsert("faq", documents(4), batch_bytes=1_100)
    batches = len(server.batches)
    assert batches == 2
    known, other = summary.warnings
    assert (known.kind, known.document_count, list(known.fields)) == (unknown, 4, ["b"])
    assert known.message.startswith("4 documents have fields that the schema does not name: b")
    assert (other.kind, other.message) == (later, "of a later server")


async def test_a_summary_without_warnings_has_none(quarry, server):
    assert (await quarry.upsert("faq", documents(4))).warnings == []
