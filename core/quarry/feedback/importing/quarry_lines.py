"""Reads Quarry's own log format: a line is an ``impression`` or an ``event``.

docs/reference/file-formats.md describes it.
"""

from typing import Any

import orjson

from quarry.errors import InvalidArgumentError
from quarry.feedback.event_limits import (
    MAX_ACTION_BYTES,
    MAX_DWELL_US,
    MAX_POSITION,
    MAX_RENDERED,
    check_event_id,
)
from quarry.feedback.importing.json_fields import JsonFields, LineError
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.ranking.queries import MAX_QUERY_BYTES
from quarry.retrieval.registry import list_arms
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
            return _read_impression(JsonFields(value["impression"], "impression."))
        if "event" in value:
            return _read_event(JsonFields(value["event"], "event."), received_us)
    raise LineError('is neither {"impression": {...}} nor {"event": {...}}')


def _read_impression(fields: JsonFields) -> Impression:
    context = SearchContext(
        fields.read_text("user_id", _PERSON_BYTES),
        fields.read_text("session_id", _PERSON_BYTES),
        fields.read_text("surface", _LABEL_BYTES),
        fields.read_text("layout", _LABEL_BYTES),
        fields.read_attributes("attributes"),
        fields.read_flag("simulated"),
        fields.read_flag("trial"),
    )
    offset = fields.read_integer("offset", 0, _MAX_OFFSET)
    impression = Impression(
        fields.read_text("search_id", MAX_SEARCH_ID_BYTES, None),
        offset,
        fields.read_time("time"),
        fields.read_text("query", MAX_QUERY_BYTES, control=True).strip(),
        context,
        _read_hits(fields.read_list("hits", MAX_HITS), "impression.hits", offset),
        fields.read_text("generation", _LABEL_BYTES),
        pool=_read_hits(fields.read_list("pool", MAX_HITS), "impression.pool", 0),
        pool_rate=fields.read_number("pool_rate", 0, 1, 1.0),
        policy=fields.read_text("policy", _LABEL_BYTES, "none"),
        seed=fields.read_integer("seed", 0),
        configuration=fields.read_text("configuration", _LABEL_BYTES),
        reranker=fields.read_text("reranker", _NAME_BYTES),
        depth=fields.read_integer("depth", 0, MAX_HITS),
        degraded=tuple(_read_labels(fields.read_list("degraded", 100))),
        source="import",
        pinned=fields.read_integer("pinned", 0, MAX_HITS),
    )
    fields.refuse_rest()
    return impression


def _read_hits(values: list[Any], where: str, offset: int) -> tuple[LoggedHit, ...]:
    hits = [_read_hit(JsonFields(value, f"{where}[{n}]."), offset + n + 1) for n, value in enumerate(values)]
    if len({hit.document_id for hit in hits}) < len(hits):
        raise LineError(f"{where} has a document twice")
    return tuple(hits)


def _read_hit(fields: JsonFields, rank: int) -> LoggedHit:
    rank = fields.read_integer("rank", 1, MAX_POSITION, rank)
    hit = LoggedHit(
        fields.read_text("id", MAX_ID_BYTES, None),
        fields.read_integer("version", 0),
        rank,
        fields.read_number("score"),
        fields.read_number("fused_score"),
        fields.read_optional("rerank_score"),
        _read_arms(fields.read_object("arms")),
        rank_before=fields.read_integer("rank_before", 1, MAX_POSITION, rank),
        rank_probability=fields.read_number("rank_probability", 5e-324, 1, 1.0),
    )
    fields.refuse_rest()
    return hit


def _read_arms(fields: JsonFields | None) -> dict[str, tuple[int, float | None]]:
    found: dict[str, tuple[int, float | None]] = {}
    for name in list_arms():
        arm = fields.read_object(name) if fields else None
        if arm:
            found[name] = (arm.read_integer("rank", 0, _MAX_OFFSET), arm.read_optional("score"))
            arm.refuse_rest()
    if fields:
        fields.refuse_rest()
    return found


def _read_labels(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) and len(value) <= _LABEL_BYTES for value in values):
        raise LineError(f"impression.degraded holds more than strings of {_LABEL_BYTES} characters")
    return [str(value) for value in values]


def _read_event(fields: JsonFields, received_us: int) -> Event:
    try:
        event_id = check_event_id(fields.read_text("event_id", 64, None))
    except InvalidArgumentError as error:
        raise LineError(f"event.event_id {error.problem}") from None
    name = fields.read_text("type", _LABEL_BYTES, None)
    if name not in set(EventType):
        raise LineError(f"event.type {name[:80]!r} is none of {', '.join(EventType)}")
    kind = EventType(name)
    dwell_s = fields.read_optional("dwell_s", 0, MAX_DWELL_US / 1e6)
    event = Event(
        event_id,
        kind,
        fields.read_text("search_id", MAX_SEARCH_ID_BYTES, None),
        fields.read_integer("offset", 0, _MAX_OFFSET),
        fields.read_time("time"),
        received_us,
        fields.read_text("document_id", MAX_ID_BYTES, "" if kind in _WITHOUT_DOCUMENT else None),
        _read_rendered(fields.read_list("rendered", MAX_RENDERED)),
        None if dwell_s is None else round(dwell_s * 1e6),
        fields.read_optional("value", *((0, 1) if kind is EventType.RATING else ())),
        fields.read_text("user_id", _PERSON_BYTES),
        fields.read_text("session_id", _PERSON_BYTES),
        fields.read_text("action", MAX_ACTION_BYTES),
        fields.read_attributes("attributes"),
    )
    fields.refuse_rest()
    check_belonging(event)
    return event


_WITHOUT_DOCUMENT = (EventType.RENDERED, EventType.OTHER)


def check_belonging(event: Event) -> None:
    """Checks the fields of a type: one that it does not have is a mistake, and one that it needs must be
    there."""
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


def _read_rendered(values: list[Any]) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for n, value in enumerate(values):
        fields = JsonFields(value, f"event.rendered[{n}].")
        found.append(
            (fields.read_text("id", MAX_ID_BYTES, None), fields.read_integer("position", 0, MAX_POSITION))
        )
        fields.refuse_rest()
    return tuple(found)
