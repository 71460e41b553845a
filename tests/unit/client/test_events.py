"""Streamed events: acknowledged batch by batch, continued after a break, each recorded once."""

import pytest

from quarry.client import AsyncClient, Client, EventsRefusedError, QuarryCallError, events, streams
from quarry.errors import OutOfRangeError
from quarry.v1 import feedback_service_pb2 as pb


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(streams, "BACKOFF_S", 0.0)


def make_events(count):
    for number in range(count):
        yield pb.Event(event_id=f"e{number}", type=pb.EVENT_TYPE_OTHER, action="read")


async def make_events_later(count):
    for event in make_events(count):
        yield event


class SyncCalls:
    """The synchronous client, called as the asynchronous one."""

    def __init__(self, address):
        self.address = address

    async def record(self, count, **named):
        with Client(self.address) as quarry:
            return quarry.record_events("faq", make_events(count), **named)


class AsyncCalls(SyncCalls):
    async def record(self, count, **named):
        async with AsyncClient(self.address) as quarry:
            return await quarry.record_events("faq", make_events_later(count), **named)


@pytest.fixture(params=[SyncCalls, AsyncCalls])
def quarry(request, server):
    return request.param(server.address)


async def test_events_are_sent_in_batches_of_one_stream(quarry, server):
    summary = await quarry.record(25, batch_events=10)
    assert (summary.stored, summary.duplicates, summary.refused) == (25, 0, 0)
    assert [len(batch.events) for batch in server.batches] == [10, 10, 5]
    assert server.calls["StreamEvents"] == 1
    assert [config.collection for config in server.configs] == ["faq"]


async def test_no_events_are_a_stream_without_batches(quarry, server):
    assert (await quarry.record(0)).stored == 0
    assert server.batches == []


@pytest.mark.parametrize("size", [0, -1])
async def test_batches_without_events_are_refused(quarry, server, size):
    """None of the events would be sent, and no error would say so."""
    with pytest.raises(OutOfRangeError, match=f"batch_events: {size} is not at least 1"):
        await quarry.record(3, batch_events=size)
    assert server.batches == []


async def test_a_broken_stream_goes_on_with_what_was_not_acknowledged(quarry, server):
    """A batch that has arrived before the stream breaks is sent again, and counts once."""
    server.breaks_before = {2, 3, 5}
    summary = await quarry.record(25, batch_events=5)
    assert (summary.stored, summary.duplicates, summary.refused) == (25, 10, 0)
    assert server.events == {f"e{n}" for n in range(25)}
    assert server.calls["StreamEvents"] == 4
    assert len(server.configs) == 4


async def test_a_server_that_stays_away_is_given_up(quarry, server):
    server.unavailable = 1_000
    with pytest.raises(QuarryCallError, match="shutting down"):
        await quarry.record(3)
    assert server.calls["StreamEvents"] == 1 + streams.RETRIES


async def test_events_that_were_refused_are_an_error_after_all_others_were_sent(quarry, server):
    server.refused = {"e1", "e7"}
    with pytest.raises(
        EventsRefusedError, match=r"2 events were not stored, 8 were.*'e1': type: is not"
    ) as e:
        await quarry.record(10, batch_events=2)
    assert [status.event_id for status in e.value.summary.refusals] == ["e1", "e7"]


def test_a_batch_is_acknowledged_before_the_next_one_is_taken(server):
    """So of a slow source every event is on disk as soon as it came."""
    taken = []

    def source():
        for batch in events.pack_events(make_events(3), 1):
            taken.append(len(server.batches))
            yield batch

    with Client(server.address) as quarry:
        for batch, response in quarry.record_event_batches("faq", source()):
            assert [s.event_id for s in response.statuses] == [event.event_id for event in batch]
    assert taken == [0, 1, 2]
