"""Changes of all documents that pass a filter: a few at a time, beside other writes.

A batch is found without holding the writer, and changed in a transaction of its own, which keeps how far the
whole is, too. So a call that was cut off, by a kill or by its deadline, goes on under the same request id,
and counts what it had changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson
import sqlalchemy as sa

from quarry.documents.log import Upsert, read_documents_by_ids, scan_documents, upsert_documents
from quarry.documents.view import View, as_stored
from quarry.errors import InvalidArgumentError
from quarry.filters import Filter, matches
from quarry.types import Fields

BATCH = 200
"""Documents that one transaction changes, at most."""
BATCH_BYTES = 2**24
"""A batch ends with the document by which its contents reach this size: memory holds them all, and other
writes wait while they are changed."""
SCANNED = 5_000
"""Documents that are looked at before what was found is changed, at most."""
MAX_REFUSALS = 20

FieldsChange = Callable[[Fields], Fields]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that a change does not fit."""

    id: str
    field: str
    problem: str
    reason: str


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """The progress of a change.

    Attributes:
        after: the last id that was looked at.
        matched: documents that passed the filter; ``updated`` of them were written, ``refused`` could not be.
        refusals: the first 20 of those.
        sequence: number of the last write.
    """

    after: str = ""
    matched: int = 0
    updated: int = 0
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()
    sequence: int = 0
    done: bool = False

    def dump(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def load(cls, data: bytes) -> "BulkProgress":
        values = orjson.loads(data)
        return cls(**{**values, "refusals": tuple(Refusal(**one) for one in values["refusals"])})


@dataclass(frozen=True, slots=True)
class Found:
    """Documents that passed the filter when they were looked at.

    Attributes:
        until: the last id that was looked at.
        last: no document comes after it.
    """

    ids: Sequence[str]
    until: str
    last: bool


def find_matching(
    connection: sa.Connection, key: int, after: str, filter: Filter, view: View = as_stored
) -> Found:
    """Looks at documents by id, those above ``after``, until a batch is full."""
    ids: list[str] = []
    until, held_bytes = after, 0
    for seen, (document, size) in enumerate(scan_documents(connection, key, after), 1):
        until = document.id
        if matches(filter, view(document.fields)):
            ids.append(document.id)
            held_bytes += size
        if len(ids) == BATCH or held_bytes >= BATCH_BYTES or seen == SCANNED:
            return Found(ids, until, last=False)
    return Found(ids, until, last=True)


def update_found(
    connection: sa.Connection,
    key: int,
    found: Found,
    progress: BulkProgress,
    filter: Filter,
    change: FieldsChange,
    view: View = as_stored,
) -> BulkProgress:
    """Changes those of the documents that still pass the filter; returns how far the whole is then.

    What ``change`` leaves as it is is not written. What it raises InvalidArgumentError for stays as it was.
    """
    matched = 0
    upserts: list[Upsert] = []
    refusals: list[Refusal] = []
    for document in read_documents_by_ids(connection, key, found.ids):
        before = view(document.fields)
        if not matches(filter, before):
            continue
        matched += 1
        try:
            after = change(before)
        except InvalidArgumentError as error:
            refusals.append(Refusal(document.id, error.field, error.problem, error.reason))
            continue
        if after != before:
            upserts.append(Upsert(document.id, after))
    outcomes = upsert_documents(connection, key, upserts)
    return replace(
        progress,
        after=found.until,
        matched=progress.matched + matched,
        updated=progress.updated + len(upserts),
        refused=progress.refused + len(refusals),
        refusals=(*progress.refusals, *refusals)[:MAX_REFUSALS],
        sequence=max([progress.sequence, *(outcome.version for outcome in outcomes)]),
        done=found.last,
    )
