"""Impressions and events as rows of the feedback log, and back."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from quarry.feedback.hits import pack_hits, unpack_hits
from quarry.feedback.types import Event, EventType, Impression
from quarry.search.logged_request import SearchContext

IMPRESSION_COLUMNS = (
    "collection_id", "search_id", "page_offset", "time_us", "received_us", "query", "user_id", "session_id",
    "simulated", "hits", "details", "shown", "pool", "trial",
)  # fmt: skip
EVENT_COLUMNS = (
    "collection_id", "event_id", "type", "search_id", "page_offset", "time_us", "received_us", "document_id",
    "user_id", "session_id", "details",
)  # fmt: skip

_PLAIN = (
    "generation",
    "pool_rate",
    "policy",
    "seed",
    "configuration",
    "reranker",
    "depth",
    "source",
    "tuned",
    "pinned",
)
_DEFAULTS = Impression("", 0, 0, "", SearchContext(), ())


def make_impression_row(key: int, impression: Impression, received_us: int) -> tuple[Any, ...]:
    """Makes values for ``IMPRESSION_COLUMNS``."""
    context = impression.context
    return (
        key,
        impression.search_id,
        impression.offset,
        impression.time_us,
        received_us,
        impression.query,
        context.user_id,
        context.session_id,
        context.simulated,
        len(impression.shown),
        _dump_details(impression),
        pack_hits(impression.shown),
        pack_hits(impression.pool) if impression.pool else None,
        context.trial,
    )


def read_impression(row: Any) -> Impression:
    """Reads the impression that a row of ``impressions`` holds."""
    details = orjson.loads(row.details)
    context = SearchContext(
        row.user_id,
        row.session_id,
        details.get("surface", ""),
        details.get("layout", ""),
        details.get("attributes", {}),
        bool(row.simulated),
        bool(row.trial),
    )
    return Impression(
        row.search_id,
        row.page_offset,
        row.time_us,
        row.query,
        context,
        unpack_hits(row.shown),
        filter=base64.b64decode(details.get("filter", "")),
        pool=unpack_hits(row.pool),
        degraded=tuple(details.get("degraded", ())),
        cascade=tuple(details.get("cascade", ())),
        **{name: details[name] for name in _PLAIN if name in details},
    )


def name_ranker(details: Mapping[str, Any]) -> str:
    """Names what made the order: generation, configuration and re-ranker together."""
    return ":".join(str(details.get(name, "")) for name in ("generation", "configuration", "reranker"))


def make_event_row(key: int, event: Event) -> tuple[Any, ...]:
    """Makes values for ``EVENT_COLUMNS``."""
    rest = {
        "rendered": list(event.rendered),
        "dwell_us": event.dwell_us,
        "value": event.value,
        "action": event.action,
        "attributes": dict(event.attributes),
    }
    rest = {name: value for name, value in rest.items() if value not in (None, "", [], {})}
    return (
        key,
        event.event_id,
        event.type.value,
        event.search_id,
        event.offset,
        event.time_us,
        event.received_us,
        event.document_id,
        event.user_id,
        event.session_id,
        orjson.dumps(rest) if rest else None,
    )


def read_event(row: Any) -> Event:
    """Reads the event that a row of ``events`` holds."""
    rest = orjson.loads(row.details) if row.details else {}
    return Event(
        row.event_id,
        EventType(row.type),
        row.search_id,
        row.page_offset,
        row.time_us,
        row.received_us,
        row.document_id,
        tuple((document, position) for document, position in rest.get("rendered", ())),
        rest.get("dwell_us"),
        rest.get("value"),
        row.user_id,
        row.session_id,
        rest.get("action", ""),
        rest.get("attributes", {}),
    )


def _dump_details(impression: Impression) -> bytes:
    details: dict[str, Any] = {
        name: getattr(impression, name)
        for name in _PLAIN
        if getattr(impression, name) != getattr(_DEFAULTS, name)
    }
    context = impression.context
    details |= {name: value for name in ("surface", "layout") if (value := getattr(context, name))}
    if context.attributes:
        details["attributes"] = dict(context.attributes)
    if impression.filter:
        details["filter"] = base64.b64encode(impression.filter).decode()
    for name in ("degraded", "cascade"):
        if values := getattr(impression, name):
            details[name] = list(values)
    return orjson.dumps(details)
