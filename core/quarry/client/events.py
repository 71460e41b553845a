"""Feedback events in batches, streamed."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from quarry.client.sources import iterate_async
from quarry.client.streams import ACKNOWLEDGEMENT_S, AcknowledgedStream
from quarry.errors import OutOfRangeError, QuarryError
from quarry.v1 import feedback_service_pb2 as pb

EventBatch: TypeAlias = Sequence[pb.Event]
Response: TypeAlias = pb.StreamEventsResponse
Events: TypeAlias = Iterable[pb.Event] | AsyncIterable[pb.Event]

BATCH_EVENTS = 1_000
"""As many as the server takes in one batch."""
KEPT_REFUSALS = 100


def pack_events(events: Iterable[pb.Event], size: int = BATCH_EVENTS) -> Iterator[EventBatch]:
    """Yields batches of ``size`` events, the last one of fewer.

    Raises OutOfRangeError if ``size`` is not at least 1.
    """
    _check_size(size)
    left = iter(events)
    while batch := tuple(islice(left, size)):
        yield batch


async def pack_events_async(events: Events, size: int = BATCH_EVENTS) -> AsyncIterator[EventBatch]:
    """Yields what ``pack_events`` yields, for asyncio."""
    _check_size(size)
    batch: list[pb.Event] = []
    async for event in iterate_async(events):
        batch.append(event)
        if len(batch) == size:
            yield tuple(batch)
            batch.clear()
    if batch:
        yield tuple(batch)


def _check_size(size: int) -> None:
    if size < 1:
        raise OutOfRangeError("batch_events", f"{size} is not at least 1")


@dataclass(slots=True)
class EventSummary:
    """The result of streamed events.

    Attributes:
        stored: events on disk.
        duplicates: those of them that were there before, from another call or from a stream that broke.
        refused: events that were not stored.
        refusals: ids and reasons of the first hundred of them.
    """

    stored: int = 0
    duplicates: int = 0
    refused: int = 0
    refusals: list[pb.EventStatus] = field(default_factory=list)

    def add(self, response: Response) -> None:
        refusals = [status for status in response.statuses if status.status.code]
        self.refused += len(refusals)
        self.refusals += refusals[: KEPT_REFUSALS - len(self.refusals)]
        self.stored += len(response.statuses) - len(refusals)
        self.duplicates += sum(status.duplicate for status in response.statuses)

    def raise_if_refused(self) -> "EventSummary":
        """Returns itself. Raises EventsRefusedError if an event was not stored."""
        if self.refused:
            raise EventsRefusedError(self)
        return self


class EventsRefusedError(QuarryError):
    """Some events were not stored; all others were.

    Attributes:
        summary: says how many were, and which were not and why.
    """

    reason = "EVENTS_REFUSED"

    def __init__(self, summary: EventSummary) -> None:
        first = summary.refusals[0]
        super().__init__(
            f"{summary.refused:,} events were not stored, {summary.stored:,} were; "
            f"the first: {first.event_id!r}: {first.status.message}"
        )
        self.summary = summary


class EventStream(AcknowledgedStream[EventBatch, Response]):
    """Sends batches of events and yields what became of each, in order.

    The next batch is taken from its source when the one before is acknowledged, however slow the source is.

    Args:
        stub: of FeedbackService, made on a CheckedChannel.
        timeout_s: longest wait for one acknowledgement.
    """

    def __init__(self, stub: Any, collection: str, timeout_s: float = ACKNOWLEDGEMENT_S) -> None:
        super().__init__(
            stub.StreamEvents,
            pb.StreamEventsRequest(config=pb.StreamEventsConfig(collection=collection)),
            _wrap_batch,
            len,
            window=1,
            timeout_s=timeout_s,
        )


def _wrap_batch(batch: EventBatch) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(batch=pb.StreamEventsBatch(events=batch))
