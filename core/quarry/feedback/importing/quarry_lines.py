"""Reads Quarry's own log format: a line is an ``impression`` or an ``event``.

docs/reference/file-formats.md describes it.
"""

from typing import Any

import orjson

from quarry.errors import InvalidArgumentError
from quarry.feedback.importing.json_fields import JsonFields, LineError
from quarry.feedback.limits import MAX_ACTION_BYTES, MAX_DWELL_US, MAX_POSITION, MAX_RENDERED, check_event_id
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.ranking.queries import MAX_QUERY_BYTES
from quarry.retrieval.registry import arm_names
from quarry.schema import MAX_ID_BYTES
from quarry.search.logged_request import SearchContext

MAX_HITS = 1_000
MAX_SEARCH_ID_BYTES = 128
_PERSON_BYTES, _LABEL_BYTES, _NAME_BYTES = 128, 100, 1_024
_MAX_OFFSET = 2**31 - 1


def parse_line(line: bytes, received_us: int) -> Impression | Event:
    """Raises LineError."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"is not JSON: {error}") from None
    if isinstance(value, dict) and len(value) == 1:
        if "impression" in value:
            return _impression(JsonFields(value["impression"], "impression."))
        if "event" in value:
            return _event(JsonFields(value["event"], "event."), received_us)
    raise LineError('is neither {"impression": {...}} nor {"event": {...}}')


def _impression(fields: JsonFields) -> Impression:
    context = SearchContext(
        fields.text("user_id", _PERSON_BYTES),
        fields.text("session_id", _PERSON_BYTES),
        fields.text("surface", _LABEL_BYTES),
        fields.text("layout", _LABEL_BYTES),
        fields.attributes("attributes"),
        fields.flag("simulated"),
    )
    offset = fields.integer("offset", 0, _MAX_OFFSET)
    impression = Impression(
        fields.text("search_id", MAX_SEARCH_ID_BYTES, None),
        offset,
        fields.time("time"),
        fields.text("query", MAX_QUERY_BYTES, control=True).strip(),
        context,
        _hits(fields.list("hits", MAX_HITS), "impression.hits", offset),
        fields.text("generation", _LABEL_BYTES),
        pool=_hits(fields.list("pool", MAX_HITS), "impression.pool", 0),
        pool_rate=fields.number("pool_rate", 0, 1, 1.0),
        policy=fields.text("policy", _LABEL_BYTES, "none"),
        seed=fields.integer("seed", 0),
        configuration=fields.text("configuration", _LABEL_BYTES),
        reranker=fields.text("reranker", _NAME_BYTES),
        depth=fields.integer("depth", 0, MAX_HITS),
        degraded=tuple(_labels(fields.list("degraded", 100))),
        source="import",
    )
    fields.end()
    return impression


def _hits(values: list[Any], where: str, offset: int) -> tuple[LoggedHit, ...]:
    hits = [_hit(JsonFields(value, f"{where}[{n}]."), offset + n + 1) for n, value in enumerate(values)]
    if len({hit.document_id for hit in hits}) < len(hits):
        raise LineError(f"{where} has a document twice")
    return tuple(hits)


def _hit(fields: JsonFields, rank: int) -> LoggedHit:
    rank = fields.integer("rank", 1, MAX_POSITION, rank)
    hit = LoggedHit(
        fields.text("id", MAX_ID_BYTES, None),
        fields.integer("version", 0),
        rank,
        fields.number("score"),
        fields.number("fused_score"),
        fields.optional("rerank_score"),
        _arms(fields.object("arms")),
        rank_before=fields.integer("rank_before", 1, MAX_POSITION, rank),
        rank_probability=fields.number("rank_probability", 5e-324, 1, 1.0),
    )
    fields.end()
    return hit


def _arms(fields: JsonFields | None) -> dict[str, tuple[int, float | None]]:
    found: dict[str, tuple[int, float | None]] = {}
    for name in arm_names():
        arm = fields.object(name) if fields else None
        if arm:
            found[name] = (arm.integer("rank", 0, _MAX_OFFSET), arm.optional("score"))
            arm.end()
    if fields:
        fields.end()
    return found


def _labels(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) and len(value) <= _LABEL_BYTES for value in values):
        raise LineError(f"impression.degraded holds more than strings of {_LABEL_BYTES} characters")
    return [str(value) for value in values]


def _event(fields: JsonFields, received_us: int) -> Event:
    try:
        event_id = check_event_id(fields.text("event_id", 64, None))
    except InvalidArgumentError as error:
        raise LineError(f"event.event_id {error.problem}") from None
    name = fields.text("type", _LABEL_BYTES, None)
    if name not in set(EventType):
        raise LineError(f"event.type {name[:80]!r} is none of {', '.join(EventType)}")
    kind = EventType(name)
    dwell_s = fields.optional("dwell_s", 0, MAX_DWELL_US / 1e6)
    event = Event(
        event_id,
        kind,
        fields.text("search_id", MAX_SEARCH_ID_BYTES, None),
        fields.integer("offset", 0, _MAX_OFFSET),
        fields.time("time"),
        received_us,
        fields.text("document_id", MAX_ID_BYTES, "" if kind in _WITHOUT_DOCUMENT else None),
        _rendered(fields.list("rendered", MAX_RENDERED)),
        None if dwell_s is None else round(dwell_s * 1e6),
        fields.optional("value", *((0, 1) if kind is EventType.RATING else ())),
        fields.text("user_id", _PERSON_BYTES),
        fields.text("session_id", _PERSON_BYTES),
        fields.text("action", MAX_ACTION_BYTES),
        fields.attributes("attributes"),
    )
    fields.end()
    check_belonging(event)
    return event


_WITHOUT_DOCUMENT = (EventType.RENDERED, EventType.OTHER)


def check_belonging(event: Event) -> None:
    """A field that the type does not have is a mistake, and one that it needs must be there."""
    kind = event.type
    for field, owners, given in (
        ("rendered", (EventType.RENDERED,), bool(event.rendered)),
        ("dwell_s", (EventType.VIEW,), event.dwell_us is not None),
        ("value", (EventType.CONVERSION, EventType.RATING), event.value is not None),
        ("action", (EventType.OTHER,), bool(event.action)),
    ):
        if given and kind not in owners:
            raise LineError(f"event.{field} does not belong to {kind}")
        if not given and kind in owners and field != "dwell_s" and kind is not EventType.CONVERSION:
            raise LineError(f"event.{field} is missing, and {kind} needs it")


def _rendered(values: list[Any]) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for n, value in enumerate(values):
        fields = JsonFields(value, f"event.rendered[{n}].")
        found.append((fields.text("id", MAX_ID_BYTES, None), fields.integer("position", 0, MAX_POSITION)))
        fields.end()
    return tuple(found)
