"""Writes the page of limits: what a server publishes, with its defaults, its settings and its meaning."""

import resource
from collections.abc import Iterator, Mapping

from google.protobuf.duration_pb2 import Duration

from quarry import vocabulary
from quarry.config import Settings
from quarry.feedback import event_limits as feedback
from quarry.feedback.importing.json_fields import MAX_ATTRIBUTES
from quarry.feedback.reading.observed_pages import MAX_RANK
from quarry.mining.members import MAX_MEMBERS
from quarry.ranking import cascade, queries, ranges
from quarry.retrieval.base import MAX_PASSAGES
from quarry.retrieval.lexical.clauses import MAX_QUERY_WORDS
from quarry.retrieval.lexical.excerpts import excerpts
from quarry.retrieval.lexical.near_words import MAX_TYPOS
from quarry.retrieval.query_syntax import MAX_TERMS
from quarry.schema import MAX_BOOST, MAX_INTEGER
from quarry.search import suggesting
from quarry.v1 import server_service_pb2 as pb
from quarry_server.info import make_server_info
from quarry_server.transport.connections import choose_connection_limits

SETTINGS = {
    "page_lifetime": "search.page_lifetime_s",
    "max_archive_bytes": "uploads.archive_bytes",
    "max_archive_files": "uploads.archive_files",
    "max_archive_ratio": "uploads.archive_ratio",
    "max_examples_bytes": "uploads.examples_bytes",
    "max_examples_rows": "uploads.examples_rows",
    "max_examples_text_bytes": "uploads.examples_text_bytes",
    "max_events_bytes": "uploads.events_bytes",
    "job_memory_bytes": "jobs.memory_bytes",
    "model_trial_time": "jobs.trial_s",
    "hub_timeout": "models.hub_timeout_s",
    "behind_after": "liveness.behind_after_s",
    "store_restart_after": "liveness.restart_after_s",
    "max_connections": "connections.max_connections",
    "connection_idle": "connections.idle_s",
    "connection_age": "connections.age_s",
    "connection_age_grace": "connections.age_grace_s",
    "connection_handshake": "connections.handshake_s",
    "max_calls_per_connection": "connections.max_calls",
    "drain_notice": "drain_notice_s",
}
"""The setting that moves a limit. A limit that is not here is fixed."""

IN_WORDS = {
    "job_memory_bytes": "three quarters of what the machine or its cgroup has",
    "max_batch_documents": "Documents in one message of `UpsertDocuments`.",
    "max_document_bytes": "Size of one document as a message.",
    "max_id_bytes": "Length of a document's id in UTF-8.",
    "max_keyword_bytes": "Length of a KEYWORD value in UTF-8.",
    "max_values_per_field": "Values that one field of a document has.",
    "max_fields": "Fields of a schema, and of a document.",
    "max_query_bytes": "Length of a query in UTF-8.",
    "max_page_size": "Hits or entries on one page.",
    "max_depth": "Candidates that an arm is asked for.",
    "max_filter_conditions": "Conditions and values in a filter.",
    "max_filter_levels": "Levels of a filter.",
    "max_retrieve_queries": "Queries in one call of `Retrieve`.",
}
"""What the API's comments leave to the name; and the default that depends on the machine."""

ANY = resource.RLIM_INFINITY
"""As many open files as one likes, so that the page does not depend on the machine."""

UNPUBLISHED = (
    ("candidates that one search ranks", queries.MAX_RANKED),
    ("words of a query that BM25 looks for", MAX_QUERY_WORDS),
    ("words of a query that may be typos", MAX_TYPOS),
    ("characters of a title that is suggested", excerpts.MAX_TITLE_CHARACTERS),
    ("characters of a document, beside its title, in which phrases are found", excerpts.MAX_TEXT_CHARACTERS),
    ("suggestions of one call", suggesting.MAX_SUGGESTIONS),
    ("bytes of a text that is completed", suggesting.MAX_TYPED_BYTES),
    ("passages of a document", MAX_PASSAGES),
    ("terms with marks in a query of the query language", MAX_TERMS),
    ("rules of synonyms of a collection", vocabulary.MAX_SYNONYM_RULES),
    ("words and phrases of such a rule", vocabulary.MAX_RULE_PHRASES),
    ("bytes of such a phrase", vocabulary.MAX_PHRASE_BYTES),
    ("pairs of a phrase and one that it finds, in all such rules", vocabulary.MAX_SYNONYM_PAIRS),
    ("stop words of a collection", vocabulary.MAX_STOP_WORDS),
    ("re-rankers in a cascade", cascade.MAX_STAGES),
    ("candidates that a re-ranker reads", int(ranges.RERANK_DEPTH.most)),
    ("hits that exploration may move", int(ranges.EXPLORED_DEPTH.most)),
    ("probability that neighbours change places", ranges.SWAP_PROBABILITY.most),
    ("boost of a field", MAX_BOOST),
    ("INTEGER values, from the negative of it", MAX_INTEGER),
    ("characters of an event's id, printable ASCII", feedback.MAX_EVENT_ID_CHARACTERS),
    ("bytes of an event's action", feedback.MAX_ACTION_BYTES),
    ("hits that one RENDERED event names", feedback.MAX_RENDERED),
    ("rank or place on a screen that an event claims", feedback.MAX_POSITION),
    ("rank that learning reads", MAX_RANK),
    ("seconds of a VIEW's dwell", feedback.MAX_DWELL_US // 1_000_000),
    ("attributes of a search or an event", MAX_ATTRIBUTES),
    ("members of a mining request", MAX_MEMBERS),
)
"""Limits that no call publishes, with their meaning."""

HEAD = (
    "# Limits\n"
    "`ServerService.GetServerInfo` publishes these limits, so that a client can ask for them. A request "
    "beyond one of them is refused with INVALID_ARGUMENT, which names the field, or with "
    "RESOURCE_EXHAUSTED. Where a setting stands, [it](configuration.md) moves the limit; the others are "
    "fixed.\n\n"
    "| limit | default | setting | meaning |\n|---|---|---|---|\n"
)
REST = (
    "\nFurther limits are fixed and not published. Quarry leaves out what is beyond the first five, and "
    "learning leaves out deeper ranks. A request beyond one of the others is refused with "
    "INVALID_ARGUMENT.\n\n"
    "| limit | |\n|---|---|\n"
)


def write_limits(comments: Mapping[str, str]) -> str:
    """Returns the page; ``comments`` has what the API says of each field of ``Limits``."""
    settings = Settings()
    published = make_server_info(settings, "cpu", choose_connection_limits(settings.connections, ANY)).limits
    rows = "".join(f"{row}\n" for row in _write_rows(published, comments))
    others = "".join(f"| {meaning} | {_write_number(value)} |\n" for meaning, value in UNPUBLISHED)
    return HEAD + rows + REST + others


def _write_rows(published: pb.Limits, comments: Mapping[str, str]) -> Iterator[str]:
    for field in pb.Limits.DESCRIPTOR.fields:
        default = _write_value(field.name, getattr(published, field.name))
        meaning = comments.get(field.name) or IN_WORDS[field.name]
        setting = SETTINGS.get(field.name)
        yield f"| `{field.name}` | {default} | {f'`{setting}`' if setting else ''} | {meaning} |"


def _write_value(name: str, value: object) -> str:
    if name == "job_memory_bytes":
        return IN_WORDS[name]
    if isinstance(value, Duration):
        return f"{value.ToMilliseconds() / 1_000:,g} s"
    number = float(str(value))
    return _write_bytes(int(number)) if name.endswith("_bytes") else _write_number(number)


def _write_number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _write_bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count:,} bytes"
