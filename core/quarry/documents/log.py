"""The document log: one row a document with its latest content, in the order of last writes.

It is the source of truth. An index follows it by asking for the rows whose version is above what the
index has applied; a row that is written again moves to the end, so nothing is missed. Deleted documents
stay as rows without content, so that followers see the deletion.

Functions take a connection inside the caller's transaction. Every write first raises the collection's
last sequence number, which locks the collection's row until the commit: versions become visible in their
own order, on any database.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from quarry.documents.catalog import read_now_us
from quarry.documents.tables import collections, documents
from quarry.documents.view import View, as_stored
from quarry.errors import (
    CollectionNotFoundError,
    ConflictError,
    DocumentDoesNotFitError,
    DocumentNotFoundError,
    InvalidArgumentError,
    QuarryError,
)
from quarry.filters import Filter, matches
from quarry.types import Change, Docno, Document, Fields

T = TypeVar("T")
_IDS_PER_QUERY = 500
_ROWS_PER_FETCH = 16
"""So many are in memory at once, each with a document of up to 4 MiB. More at once are no faster."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """A document to store.

    Attributes:
        fields: checked against the collection's schema.
        if_version: write only if this is the current version; None writes always.
    """

    id: str
    fields: Fields
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """The result of one document of a write: its new version, or an error and version 0."""

    id: str
    version: int = 0
    error: QuarryError | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    docno: Docno
    version: int
    deleted: bool


def upsert_documents(connection: sa.Connection, key: int, upserts: Sequence[Upsert]) -> list[WriteOutcome]:
    """Stores each document whose version is as wanted; returns one outcome each, in order.

    Of two documents with one id the later wins, as if they had been written one after the other.
    """
    sequence = _reserve(connection, key, len(upserts))
    current = _read_current(connection, key, [upsert.id for upsert in upserts])
    outcomes: list[WriteOutcome] = []
    rows: dict[str, dict[str, Any]] = {}
    versions = {id: row.version for id, row in current.items() if not row.deleted}
    now = read_now_us()
    for upsert in upserts:
        if upsert.if_version is not None and upsert.if_version != versions.get(upsert.id, 0):
            outcomes.append(WriteOutcome(upsert.id, error=_make_conflict(upsert.id)))
            continue
        sequence += 1
        versions[upsert.id] = sequence
        outcomes.append(WriteOutcome(upsert.id, sequence))
        rows[upsert.id] = _make_row(key, upsert.id, sequence, upsert.fields, now)
    _write(connection, rows, current)
    born = sum(1 for id in rows if id not in current or current[id].deleted)
    _finish(connection, key, sequence, born)
    return outcomes


def delete_documents(connection: sa.Connection, key: int, ids: Sequence[str]) -> list[WriteOutcome]:
    """Deletes each document; one that is not there gets DocumentNotFoundError as its outcome."""
    sequence = _reserve(connection, key, len(ids))
    current = {id: row for id, row in _read_current(connection, key, ids).items() if not row.deleted}
    outcomes: list[WriteOutcome] = []
    rows: dict[str, dict[str, Any]] = {}
    now = read_now_us()
    for id in ids:
        if id not in current or id in rows:
            outcomes.append(WriteOutcome(id, error=DocumentNotFoundError(id)))
            continue
        sequence += 1
        outcomes.append(WriteOutcome(id, sequence))
        rows[id] = _make_row(key, id, sequence, None, now)
    _write(connection, rows, current)
    _finish(connection, key, sequence, -len(rows))
    return outcomes


def delete_by_filter(
    connection: sa.Connection, key: int, filter: Filter, view: View = as_stored
) -> list[WriteOutcome]:
    """Deletes every document that passes ``filter`` now, as it is viewed; returns outcomes, by id."""
    _reserve(connection, key, 0)  # no other writer until the commit
    ids = [d.id for d, _ in scan_documents(connection, key) if matches(filter, view(d.fields))]
    return delete_documents(connection, key, ids)


def update_document(
    connection: sa.Connection,
    key: int,
    id: str,
    change: Callable[[Fields], Fields],
    if_version: int | None,
    allow_missing: bool,
) -> Document:
    """Replaces a document's fields by ``change`` of them; returns the document as written.

    Raises:
        DocumentNotFoundError: it is not there and ``allow_missing`` is false.
        ConflictError: ``if_version`` is not its version.
    """
    _reserve(connection, key, 0)
    found = get_document(connection, key, id)
    if found is None and not allow_missing:
        raise DocumentNotFoundError(id)
    fields = change(found.fields if found else {})
    (outcome,) = upsert_documents(connection, key, [Upsert(id, fields, if_version)])
    if outcome.error:
        raise outcome.error
    written = get_document(connection, key, id)
    if written is None:
        raise DocumentNotFoundError(id)
    return written


def get_document(connection: sa.Connection, key: int, id: str) -> Document | None:
    return next(read_documents_by_ids(connection, key, [id]), None)


def read_documents_by_ids(connection: sa.Connection, key: int, ids: Sequence[str]) -> Iterator[Document]:
    """Yields those of the documents that exist."""
    for some in _split_chunks(list(ids)):
        query = sa.select(documents).where(documents.c.collection_id == key, documents.c.id.in_(some))
        for row in connection.execute(query.where(documents.c.deleted.is_(False))):
            yield _make_document(row)


def scan_documents(connection: sa.Connection, key: int, after: str = "") -> Iterator[tuple[Document, int]]:
    """Yields documents in order of id (UTF-8 bytes), those above ``after``, with the bytes of their
    content."""
    query = (
        sa.select(documents)
        .where(documents.c.collection_id == key, documents.c.id > after, documents.c.deleted.is_(False))
        .order_by(documents.c.id)
    )
    for row in _stream_rows(connection, query):
        yield _make_document(row), len(row.fields)


def read_documents(connection: sa.Connection, docnos: Collection[Docno]) -> dict[Docno, Document]:
    """Reads those of the documents that exist."""
    columns = "docno, id, fields, version, update_time_us"
    rows = _select_rows(connection, columns, docnos)
    return {
        docno: Document(docno, id, orjson.loads(fields), version, time_us)
        for docno, id, fields, version, time_us in rows
    }


def read_ids(connection: sa.Connection, docnos: Collection[Docno]) -> dict[Docno, tuple[str, int]]:
    """Reads id and version of those of the documents that exist.

    Every search reads some 200. As one row of JSON they take the interpreter lock once, not once a row.
    """
    rows = "json_group_array(json_array(docno, id, version))"
    found: dict[Docno, tuple[str, int]] = {}
    for statement in _make_selects(rows, docnos):
        for docno, id, version in orjson.loads(connection.exec_driver_sql(statement).scalar_one()):
            found[docno] = (id, version)
    return found


def find_docnos(connection: sa.Connection, key: int, ids: Sequence[str]) -> dict[str, tuple[Docno, int]]:
    """Finds docno and version of those of the documents that exist, by id."""
    rows = _read_current(connection, key, ids)
    return {id: (row.docno, row.version) for id, row in rows.items() if not row.deleted}


def read_sizes(connection: sa.Connection, docnos: Collection[Docno]) -> dict[Docno, int]:
    """Reads how many bytes the content has of those of the documents that exist."""
    return dict(_select_rows(connection, "docno, length(fields)", docnos))


def _select_rows(connection: sa.Connection, columns: str, docnos: Collection[Docno]) -> Iterator[Any]:
    """Yields rows of those of the documents that exist."""
    for statement in _make_selects(columns, docnos):
        yield from connection.exec_driver_sql(statement)


def _make_selects(columns: str, docnos: Collection[Docno]) -> Iterator[str]:
    """Writes docnos as numbers into the statement: they cost half of what parameters do."""
    for some in _split_chunks([int(docno) for docno in docnos]):
        found = f"docno IN ({','.join(map(str, some))}) AND NOT deleted"
        yield f"SELECT {columns} FROM documents WHERE {found}"  # noqa: S608


def read_changes(
    connection: sa.Connection, key: int, after: int, max_rows: int, max_bytes: int
) -> list[Change]:
    """Reads what was written after sequence number ``after``, in order, at least one change if there is
    any."""
    query = (
        sa.select(documents.c.docno, documents.c.version, documents.c.fields)
        .where(documents.c.collection_id == key, documents.c.version > after)
        .order_by(documents.c.version)
        .limit(max_rows)
    )
    changes: list[Change] = []
    size = 0
    for docno, version, fields in _stream_rows(connection, query):
        changes.append(Change(docno, version, None if fields is None else orjson.loads(fields)))
        size += len(fields or b"")
        if size >= max_bytes:
            break
    return changes


def sample_documents(connection: sa.Connection, key: int, size: int) -> list[Fields]:
    """Returns the fields of at most ``size`` documents, evenly spread over the order of last writes."""
    last = read_last_sequence(connection, key)
    found: dict[Docno, Fields] = {}
    for step in range(size):
        query = (
            sa.select(documents.c.docno, documents.c.fields)
            .where(documents.c.collection_id == key, documents.c.version > step * last // size)
            .where(documents.c.deleted.is_(False))
            .order_by(documents.c.version)
            .limit(1)
        )
        if row := connection.execute(query).first():
            found[row.docno] = orjson.loads(row.fields)
    return list(found.values())


def find_first_unfit(
    connection: sa.Connection, key: int, after: int, check: Callable[[Fields], None]
) -> tuple[int, DocumentDoesNotFitError | None]:
    """Looks at every document written after sequence number ``after``, in order.

    Returns:
        The sequence number up to which all was looked at, and what is wrong with the first document of
        which ``check`` raised InvalidArgumentError.
    """
    query = (
        sa.select(documents.c.id, documents.c.fields)
        .where(documents.c.collection_id == key, documents.c.version > after)
        .where(documents.c.deleted.is_(False))
        .order_by(documents.c.version)
    )
    until = read_last_sequence(connection, key)
    for id, fields in _stream_rows(connection, query):
        try:
            check(orjson.loads(fields))
        except InvalidArgumentError as error:
            return after, DocumentDoesNotFitError(id, error.field, error.problem)
    return until, None


def read_versions(connection: sa.Connection, key: int) -> Iterator[tuple[Docno, str, int, bool]]:
    """Yields docno, id, version and whether it is deleted, of every document that was ever written."""
    query = sa.select(documents.c.docno, documents.c.id, documents.c.version, documents.c.deleted).where(
        documents.c.collection_id == key
    )
    yield from _stream_rows(connection, query)


def find_deletion(connection: sa.Connection, key: int, after: int, until: int) -> int | None:
    """Finds when the first document was deleted of those last written after sequence number ``after``, at
    ``until`` at the latest; microseconds since 1970. None if none was."""
    query = (
        sa.select(documents.c.update_time_us)
        .where(documents.c.collection_id == key, documents.c.version > after, documents.c.version <= until)
        .where(documents.c.deleted.is_(True))
        .order_by(documents.c.version)
        .limit(1)
    )
    found = connection.scalar(query)
    return None if found is None else int(found)


def read_last_sequence(connection: sa.Connection, key: int) -> int:
    """Raises CollectionNotFoundError if the collection was deleted meanwhile."""
    found = connection.scalar(sa.select(collections.c.last_sequence).where(collections.c.id == key))
    if found is None:
        raise CollectionNotFoundError
    return int(found)


def count_documents(connection: sa.Connection, key: int, until: int) -> int:
    """Counts how many documents exist that were last written at sequence number ``until`` or before."""
    total = connection.scalar(sa.select(collections.c.document_count).where(collections.c.id == key))
    later = sa.select(sa.func.count()).where(
        documents.c.collection_id == key, documents.c.version > until, documents.c.deleted.is_(False)
    )
    return int(total or 0) - int(connection.scalar(later) or 0)


def _reserve(connection: sa.Connection, key: int, count: int) -> int:
    """Locks the collection's row and returns the last sequence number before the ``count`` to come."""
    statement = (
        sa.update(collections)
        .where(collections.c.id == key)
        .values(last_sequence=collections.c.last_sequence + count)
        .returning(collections.c.last_sequence)
    )
    after = connection.scalar(statement)
    if after is None:
        raise CollectionNotFoundError
    return int(after) - count


def _finish(connection: sa.Connection, key: int, sequence: int, born: int) -> None:
    """Gives back reserved numbers that were not used, and counts documents."""
    connection.execute(
        sa.update(collections)
        .where(collections.c.id == key)
        .values(last_sequence=sequence, document_count=collections.c.document_count + born)
    )


def _read_current(connection: sa.Connection, key: int, ids: Sequence[str]) -> dict[str, _Row]:
    found: dict[str, _Row] = {}
    columns = sa.select(documents.c.docno, documents.c.id, documents.c.version, documents.c.deleted)
    for some in _split_chunks(list(ids)):
        query = columns.where(documents.c.collection_id == key, documents.c.id.in_(some))
        for docno, id, version, deleted in connection.execute(query):
            found[id] = _Row(docno, version, deleted)
    return found


def _write(connection: sa.Connection, rows: dict[str, dict[str, Any]], current: dict[str, _Row]) -> None:
    new = [row for id, row in rows.items() if id not in current]
    old = [{**row, "known": current[id].docno} for id, row in rows.items() if id in current]
    if new:
        connection.execute(sa.insert(documents), new)
    if old:
        columns = ("version", "deleted", "fields", "update_time_us")
        connection.execute(
            sa.update(documents)
            .where(documents.c.docno == sa.bindparam("known"))
            .values({name: sa.bindparam(name) for name in columns}),
            [{name: row[name] for name in ("known", *columns)} for row in old],
        )


def _make_row(key: int, id: str, version: int, fields: Fields | None, now: int) -> dict[str, Any]:
    return {
        "collection_id": key,
        "id": id,
        "version": version,
        "deleted": fields is None,
        "fields": None if fields is None else orjson.dumps(fields),
        "update_time_us": now,
    }


def _make_document(row: Any) -> Document:
    return Document(row.docno, row.id, orjson.loads(row.fields), row.version, row.update_time_us)


def _make_conflict(id: str) -> ConflictError:
    return ConflictError(f"the document {id!r} has changed since its etag was read", document_id=id)


def _split_chunks(values: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), _IDS_PER_QUERY):
        yield values[start : start + _IDS_PER_QUERY]


def _stream_rows(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    result = connection.execution_options(stream_results=True).execute(query)
    try:
        while rows := result.fetchmany(_ROWS_PER_FETCH):
            yield from rows
    finally:
        result.close()
