"""User Behavior Insights 1.3 (https://github.com/o19s/ubi): its records as impressions and events.

What the format leaves open is settled here. Events have no id: one is made of all that the record says, so
the same record is the same event. An ordinal counts from 0 or from 1: from 0 in an application where a 0
occurs. A query without ``query_response_hit_ids`` has shown what its ``impression`` events name.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from quarry.feedback.event_limits import MAX_ACTION_BYTES, MAX_POSITION, MIN_TIME_US
from quarry.feedback.importing.json_fields import LineError, parse_time
from quarry.feedback.importing.quarry_lines import MAX_HITS, MAX_SEARCH_ID_BYTES
from quarry.feedback.types import Event, EventType, Impression, LoggedHit
from quarry.ranking.queries import MAX_QUERY_BYTES
from quarry.schema import CONTROL_CHARACTER, MAX_ID_BYTES, MAX_TIMESTAMP_US
from quarry.search.logged_request import SearchContext

ACTIONS = {
    "impression": EventType.RENDERED,
    "click": EventType.CLICK,
    "item_click": EventType.CLICK,
    "view": EventType.VIEW,
    "watch": EventType.VIEW,
    "purchase": EventType.CONVERSION,
    "add_to_cart": EventType.CONVERSION,
}
"""All other actions are OTHER and keep their name."""
_BULK = ("index", "create", "update", "delete")
_PERSON_BYTES, _LABEL_BYTES = 128, 100

Record = dict[str, Any]
"""A query or an event as ``read_record`` leaves it: checked, with few fields."""


def read_record(line: bytes) -> Record | None:
    """Reads one line; None for a line of OpenSearch's bulk format that holds no record. Raises LineError."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LineError("is not a JSON object")
    if len(value) == 1 and isinstance(value.get(next(iter(value))), dict) and next(iter(value)) in _BULK:
        return None
    value = value["_source"] if isinstance(value.get("_source"), dict) else value
    if "action_name" in value:
        return _read_event_record(value)
    if "user_query" in value:
        return _read_query_record(value)
    raise LineError("is neither a query (no user_query) nor an event (no action_name)")


def _read_query_record(value: Mapping[str, Any]) -> Record:
    hits = value.get("query_response_hit_ids")
    if hits is not None and not isinstance(hits, list):
        raise LineError("query_response_hit_ids is not a list")
    return {
        "search": _read_text(value, "query_id", MAX_SEARCH_ID_BYTES, needed=True),
        "application": _read_text(value, "application", _LABEL_BYTES),
        "query": _read_query(value),
        "time_us": _read_time(value.get("timestamp")),
        "user": _read_person(value),
        "session": _read_text(value, "session_id", _PERSON_BYTES),
        "hits": None if hits is None else _keep_unique(_read_id(hit) for hit in hits[:MAX_HITS]),
    }


def _read_event_record(value: Mapping[str, Any]) -> Record:
    action = _read_text(value, "action_name", MAX_ACTION_BYTES, needed=True)
    attributes = value.get("event_attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    target, position = attributes.get("object"), attributes.get("position")
    object_id = target.get("object_id") if isinstance(target, dict) else None
    ordinal = position.get("ordinal") if isinstance(position, dict) else None
    if action in ACTIONS and object_id is None:
        raise LineError(f"{action} has no event_attributes.object.object_id")
    try:
        whole = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # it writes fewer levels than it reads
        raise LineError("is nested too deeply") from None
    return {
        "search": _read_text(value, "query_id", MAX_SEARCH_ID_BYTES, needed=True),
        "application": _read_text(value, "application", _LABEL_BYTES),
        "action": action,
        "event_id": hashlib.blake2b(whole, digest_size=16).hexdigest(),
        "object": "" if object_id is None else _read_id(object_id),
        "ordinal": _read_ordinal(ordinal),
        "time_us": _read_time(value.get("timestamp")),
        "user": _read_person(value),
        "session": _read_text(value, "session_id", _PERSON_BYTES)
        or _read_text(attributes, "session_id", _PERSON_BYTES),
    }


def read_impression(query: Record, events: Sequence[Record], base: int, simulated: bool) -> Impression:
    """Reads what a query has shown. Raises LineError if nothing says so.

    Args:
        events: of the same query.
        base: what ordinals count from.
    """
    ids: list[str] | None = query["hits"]
    ranks: Mapping[str, int] = {}
    if ids is None:
        places = [(e["ordinal"], e["object"]) for e in events if e["action"] == "impression" and e["object"]]
        if not places:
            raise LineError("the query has neither query_response_hit_ids nor impression events")
        ordered = sorted(places, key=lambda place: MAX_POSITION if place[0] is None else place[0])
        ids = _keep_unique(object_id for _, object_id in ordered)[:MAX_HITS]
        ranks = {id: ordinal - base + 1 for ordinal, id in reversed(ordered) if ordinal is not None}
    hits = [LoggedHit(id, 0, rank, 0.0, rank_before=rank) for id, rank in _add_ranks(ids, ranks)]
    session = query["session"] or next((event["session"] for event in events if event["session"]), "")
    context = SearchContext(query["user"], session, query["application"], simulated=simulated)
    return Impression(
        query["search"], 0, query["time_us"], query["query"], context, tuple(hits), source="import"
    )


def read_event(record: Record, base: int, received_us: int) -> Event:
    kind = ACTIONS.get(record["action"], EventType.OTHER)
    rendered: tuple[tuple[str, int], ...] = ()
    if kind is EventType.RENDERED:
        position = 0 if record["ordinal"] is None else record["ordinal"] - base + 1
        rendered = ((record["object"], position),)
    return Event(
        record["event_id"],
        kind,
        record["search"],
        0,
        record["time_us"],
        received_us,
        "" if rendered else record["object"],
        rendered,
        user_id=record["user"],
        session_id=record["session"],
        action=record["action"] if kind is EventType.OTHER else "",
    )


def _add_ranks(ids: Sequence[str], ranks: Mapping[str, int]) -> list[tuple[str, int]]:
    """Returns ids with ranks: those given, otherwise the place in the list."""
    return [(id, max(1, ranks.get(id, place))) for place, id in enumerate(ids, start=1)]


def _keep_unique(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def _read_text(value: Mapping[str, Any], name: str, most_bytes: int, needed: bool = False) -> str:
    found = value.get(name)
    if found is None or found == "":
        if needed:
            raise LineError(f"{name} is missing")
        return ""
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise LineError(f"{name} is not a string")
    return _clean(name, str(found), most_bytes)


def _clean(name: str, text: str, most_bytes: int) -> str:
    if len(text.encode()) > most_bytes:
        raise LineError(f"{name} has over {most_bytes} bytes")
    if CONTROL_CHARACTER.search(text):
        raise LineError(f"{name} holds a control character")
    return text


def _read_query(value: Mapping[str, Any]) -> str:
    text = value["user_query"]
    if not isinstance(text, str) or len(text.encode()) > MAX_QUERY_BYTES:
        raise LineError(f"user_query is not a string of at most {MAX_QUERY_BYTES} bytes")
    return text.strip()


def _read_person(value: Mapping[str, Any]) -> str:
    return _read_text(value, "user_id", _PERSON_BYTES) or _read_text(value, "client_id", _PERSON_BYTES)


def _read_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise LineError("an object's id is neither a string nor an integer")
    return _clean("an object's id", str(value), MAX_ID_BYTES)


def _read_ordinal(value: Any) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_POSITION
    return value if good else None


def _read_time(value: Any) -> int:
    """Reads ISO 8601, or milliseconds since 1970."""
    time_us: int | None = None
    if isinstance(value, str):
        time_us = parse_time(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        time_us = value * 1_000
    if time_us is None or not MIN_TIME_US <= time_us <= MAX_TIMESTAMP_US:
        raise LineError("timestamp is not a time such as 2026-01-31T12:00:00Z, years 2000 to 9999")
    return time_us
