"""Events: messages to domain, each refused on its own, and a status for each."""

import math
from collections.abc import Sequence, Set

from google.protobuf import duration_pb2, timestamp_pb2

from quarry.documents.catalog import read_now_us
from quarry.errors import (
    ConflictingFieldsError,
    InvalidArgumentError,
    InvalidTokenError,
    OutOfRangeError,
    RequiredError,
    UnknownValueError,
)
from quarry.feedback.attribution_tokens import MAX_TOKEN_BYTES, Attribution, TokenError, TokenSigner
from quarry.feedback.event_limits import (
    MAX_ACTION_BYTES,
    MAX_DWELL_US,
    MAX_POSITION,
    MAX_RENDERED,
    check_event_id,
    check_time,
)
from quarry.feedback.log import FeedbackLog
from quarry.feedback.types import Event, EventType
from quarry.schema import check_id
from quarry.v1 import feedback_service_pb2 as pb
from quarry_server.common.errors import make_ok_status, make_status
from quarry_server.common.labels import MAX_PERSON_BYTES, check_attributes, check_label
from quarry_server.common.values import parse_timestamp

MAX_BATCH_EVENTS = 1_000

TYPES = {
    pb.EVENT_TYPE_RENDERED: EventType.RENDERED,
    pb.EVENT_TYPE_CLICK: EventType.CLICK,
    pb.EVENT_TYPE_VIEW: EventType.VIEW,
    pb.EVENT_TYPE_CONVERSION: EventType.CONVERSION,
    pb.EVENT_TYPE_RATING: EventType.RATING,
    pb.EVENT_TYPE_SKIP: EventType.SKIP,
    pb.EVENT_TYPE_COPY: EventType.COPY,
    pb.EVENT_TYPE_OTHER: EventType.OTHER,
}
_WITHOUT_DOCUMENT = (EventType.RENDERED, EventType.OTHER)


async def record(
    log: FeedbackLog, signer: TokenSigner, collections: Set[int], messages: Sequence[pb.Event]
) -> list[pb.EventStatus]:
    """Stores the events that are right; returns a status for each, in order, once they are synced.

    Args:
        collections: keys of those whose answers events may be of. Each event belongs to the collection that
            gave the answer, which its token names.

    Raises:
        InvalidArgumentError: there are too many; a single bad event has it in its status instead.
    """
    if len(messages) > MAX_BATCH_EVENTS:
        problem = f"has {len(messages)} entries, at most {MAX_BATCH_EVENTS} are allowed"
        raise OutOfRangeError("events", problem)
    received_us = read_now_us()
    parsed = [
        _parse_event(signer, collections, n, message, received_us) for n, message in enumerate(messages)
    ]
    events: dict[int, list[Event]] = {}
    for one in parsed:
        if not isinstance(one, InvalidArgumentError):
            events.setdefault(one[0], []).append(one[1])
    duplicates = {key: iter(await log.record(key, some)) for key, some in events.items()}
    return [
        pb.EventStatus(event_id=message.event_id, status=make_status(one))
        if isinstance(one, InvalidArgumentError)
        else pb.EventStatus(
            event_id=message.event_id, status=make_ok_status(), duplicate=next(duplicates[one[0]])
        )
        for message, one in zip(messages, parsed, strict=True)
    ]


def _parse_event(
    signer: TokenSigner, collections: Set[int], index: int, message: pb.Event, received_us: int
) -> tuple[int, Event] | InvalidArgumentError:
    """Parses an event, and the collection that it belongs to, or says what is wrong with it."""
    try:
        attribution = parse_token(message.attribution_token, signer, collections)
        return attribution.collection, parse_event(message, attribution, received_us)
    except InvalidArgumentError as error:
        return error.move_under(f"events[{index}]")


def parse_token(token: str, signer: TokenSigner, collections: Set[int]) -> Attribution:
    """Raises InvalidArgumentError unless this server gave it for an answer of one of these collections."""
    if len(token) > MAX_TOKEN_BYTES:
        raise OutOfRangeError("attribution_token", f"has over {MAX_TOKEN_BYTES} bytes")
    try:
        attribution = signer.read(token)
    except TokenError as error:
        wrong = InvalidTokenError if token else RequiredError
        raise wrong("attribution_token", str(error)) from None
    if attribution.collection not in collections:
        raise InvalidTokenError("attribution_token", "is of an answer of another collection")
    return attribution


def parse_event(message: pb.Event, attribution: Attribution, received_us: int) -> Event:
    """Raises InvalidArgumentError with the path of the first field that is wrong."""
    check_event_id(message.event_id)
    kind = TYPES.get(message.type)
    if kind is None:
        wrong = UnknownValueError if message.type else RequiredError
        raise wrong("type", f"{message.type} is not an EventType, or it is missing")
    _check_fields_of(kind, message)
    return Event(
        message.event_id,
        kind,
        attribution.search_id,
        attribution.offset,
        _parse_time_us(message.event_time) if message.HasField("event_time") else received_us,
        received_us,
        _check_document_id(kind, message.document_id),
        _parse_rendered(message.rendered),
        _parse_dwell_us(message.dwell) if message.HasField("dwell") else None,
        _parse_value(kind, message),
        check_label("user_id", message.user_id, MAX_PERSON_BYTES),
        check_label("session_id", message.session_id, MAX_PERSON_BYTES),
        check_label("action", message.action, MAX_ACTION_BYTES),
        check_attributes(message.attributes),
    )


def _check_fields_of(kind: EventType, message: pb.Event) -> None:
    """Checks the fields of a type: one that it does not have is a mistake, and one that it needs must be
    there."""
    for field, owners, given in (
        ("rendered", (EventType.RENDERED,), bool(message.rendered)),
        ("dwell", (EventType.VIEW,), message.HasField("dwell")),
        ("value", (EventType.CONVERSION, EventType.RATING), message.HasField("value")),
        ("action", (EventType.OTHER,), bool(message.action)),
    ):
        if given and kind not in owners:
            names = " and ".join(owner.name for owner in owners)
            raise ConflictingFieldsError(field, f"belongs to {names}, not to {kind.name}")
    for field, kinds, given in (
        ("rendered", (EventType.RENDERED,), bool(message.rendered)),
        ("value", (EventType.RATING,), message.HasField("value")),
        ("action", (EventType.OTHER,), bool(message.action)),
    ):
        if kind in kinds and not given:
            raise RequiredError(field, f"is missing, and {kind.name} needs it")


def _check_document_id(kind: EventType, id: str) -> str:
    if id or kind not in _WITHOUT_DOCUMENT:
        try:
            check_id(id)
        except InvalidArgumentError as error:
            raise error.move_to("document_id") from None
    return id


def _parse_rendered(messages: Sequence[pb.RenderedHit]) -> tuple[tuple[str, int], ...]:
    if len(messages) > MAX_RENDERED:
        raise OutOfRangeError("rendered", f"has {len(messages)} hits, at most {MAX_RENDERED}")
    for index, hit in enumerate(messages):
        try:
            check_id(hit.document_id)
        except InvalidArgumentError as error:
            raise error.move_to(f"rendered[{index}].document_id") from None
        if not 0 <= hit.position <= MAX_POSITION:
            problem = f"{hit.position} is not 0 to {MAX_POSITION:,}"
            raise OutOfRangeError(f"rendered[{index}].position", problem)
    return tuple((hit.document_id, hit.position) for hit in messages)


def _parse_time_us(message: timestamp_pb2.Timestamp) -> int:
    try:
        return check_time(parse_timestamp(message))
    except InvalidArgumentError as error:
        raise error.move_to("event_time") from None


def _parse_dwell_us(message: duration_pb2.Duration) -> int:
    value = message.seconds * 1_000_000 + message.nanos // 1_000
    if not (0 <= value <= MAX_DWELL_US and 0 <= message.nanos < 1_000_000_000):
        raise OutOfRangeError("dwell", "is not 0 to 24 hours")
    return value


def _parse_value(kind: EventType, message: pb.Event) -> float | None:
    if not message.HasField("value"):
        return None
    if not math.isfinite(message.value):
        raise OutOfRangeError("value", "is not finite")
    if kind is EventType.RATING and not 0 <= message.value <= 1:
        raise OutOfRangeError("value", f"{message.value} is not 0 to 1, as a rating must be")
    return message.value
