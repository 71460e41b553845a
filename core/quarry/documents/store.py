"""The document log as the rest of Quarry uses it: grouped writes, reads on any thread."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from quarry.documents import log
from quarry.documents.bulk_updates import BulkProgress, FieldsChange, find_matching, update_found
from quarry.documents.log import Upsert, WriteOutcome
from quarry.documents.outcomes import dump_document, dump_outcomes, load_document, load_outcomes
from quarry.documents.requests import recall, remember, run_once
from quarry.documents.view import View, as_stored
from quarry.documents.writer import GroupCommitWriter, Write
from quarry.filters import Filter, matches
from quarry.types import Change, Docno, Document, Fields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestId:
    """The id that makes a write happen once.

    Attributes:
        id: the caller's; empty to write every time.
        method: of the API; ids are unique within a collection and method.
        request: the whole request, serialized.
    """

    id: str
    method: str
    request: bytes


class Database:
    """A database and the one thread that writes to it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.writer = GroupCommitWriter(engine)

    async def write(self, write: Write[T]) -> T:
        """Runs ``write`` in a transaction, and returns when that is synced."""
        return await asyncio.wrap_future(self.writer.submit(write))

    def read(self, read: Callable[[sa.Connection], T]) -> T:
        """Runs ``read`` on one consistent state. Blocks."""
        with self.engine.connect() as connection:
            return read(connection)

    def close(self) -> None:
        self.writer.close()
        self.engine.dispose()


class DocumentLog:
    """The documents of one collection.

    Attributes:
        view: how a generation's schema reads what is stored.
    """

    def __init__(self, database: Database, key: int, view: View = as_stored) -> None:
        self._database, self._key, self.view = database, key, view

    async def upsert(self, upserts: Sequence[Upsert], request: RequestId) -> list[WriteOutcome]:
        return await self._write_all(request, partial(log.upsert_documents, key=self._key, upserts=upserts))

    async def delete(self, ids: Sequence[str], request: RequestId) -> list[WriteOutcome]:
        return await self._write_all(request, partial(log.delete_documents, key=self._key, ids=ids))

    async def delete_by_filter(self, filter: Filter, request: RequestId) -> list[WriteOutcome]:
        delete = partial(log.delete_by_filter, key=self._key, filter=filter, view=self.view)
        return await self._write_all(request, delete)

    async def update(
        self,
        id: str,
        change: Callable[[Fields], Fields],
        if_version: int | None,
        allow_missing: bool,
        request: RequestId,
    ) -> Document:
        """Updates a document as ``log.update_document`` does, on the fields as they are viewed."""

        def read_viewed(fields: Fields) -> Fields:
            return change(self.view(fields))

        update = partial(
            log.update_document,
            key=self._key,
            id=id,
            change=read_viewed,
            if_version=if_version,
            allow_missing=allow_missing,
        )
        return await self._write_once(request, update, dump_document, load_document)

    async def update_batch(
        self, filter: Filter, change: FieldsChange, request: RequestId, progress: BulkProgress
    ) -> BulkProgress:
        """Changes the next few documents that pass ``filter``; returns how far the whole is then.

        Raises InvalidArgumentError if the request id was used for another request.
        """
        key, scope = self._key, self._make_scope(request)
        found = await asyncio.to_thread(
            self._database.read, lambda c: find_matching(c, key, progress.after, filter, self.view)
        )

        def write(connection: sa.Connection) -> BulkProgress:
            known = recall(connection, scope, request.id, request.request, BulkProgress.load)
            if known is not None and known.after != progress.after:
                return known  # the same request came twice, and the other one is ahead
            after = update_found(connection, key, found, progress, filter, change, self.view)
            if request.id:
                remember(connection, scope, request.id, request.request, after.dump())
            return after

        return await self._database.write(write)

    def recall_update(self, request: RequestId) -> BulkProgress:
        """Reads how far ``update_batch`` came under this request id. Raises as that does. Blocks."""
        scope, load = self._make_scope(request), BulkProgress.load
        found = self._database.read(lambda c: recall(c, scope, request.id, request.request, load))
        return found or BulkProgress()

    async def _write_all(self, request: RequestId, write: Write[list[WriteOutcome]]) -> list[WriteOutcome]:
        return await self._write_once(request, write, dump_outcomes, load_outcomes)

    async def _write_once(
        self, request: RequestId, write: Write[T], dump: Callable[[T], bytes], load: Callable[[bytes], T]
    ) -> T:
        """Writes in the writer's thread, which calls ``run_once`` itself and does not come back here."""
        once = partial(
            run_once,
            scope=self._make_scope(request),
            request_id=request.id,
            request=request.request,
            write=write,
            dump=dump,
            load=load,
        )
        return await self._database.write(once)

    def _make_scope(self, request: RequestId) -> str:
        return f"{self._key}/{request.method}"

    def get(self, id: str) -> Document | None:
        found = self._database.read(lambda c: log.get_document(c, self._key, id))
        return None if found is None else self._view(found)

    def read_page(
        self, after: str, limit: int, most_bytes: int, filter: Filter | None
    ) -> tuple[list[Document], bool]:
        """Reads documents that pass ``filter``, by id, from the first id above ``after``, and whether more
        follow.

        At most ``limit``, and no more once they have ``most_bytes`` of content together.
        """

        def read(connection: sa.Connection) -> tuple[list[Document], bool]:
            found: list[Document] = []
            size = 0
            for stored, content in log.scan_documents(connection, self._key, after):
                document = self._view(stored)
                if filter is not None and not matches(filter, document.fields):
                    continue
                if len(found) == limit or size >= most_bytes:
                    return found, True
                found.append(document)
                size += content
            return found, False

        return self._database.read(read)

    def read_ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        return self._database.read(lambda c: log.read_ids(c, docnos))

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]:
        found = self._database.read(lambda c: log.read_documents(c, docnos))
        if self.view is as_stored:
            return found
        return {docno: self._view(document) for docno, document in found.items()}

    def find_docnos(self, ids: Collection[str]) -> Mapping[str, tuple[Docno, int]]:
        """Finds docno and version as ``log.find_docnos`` does."""
        return self._database.read(lambda c: log.find_docnos(c, self._key, list(ids)))

    def split_by_size(self, docnos: Collection[Docno], most_bytes: int) -> list[list[Docno]]:
        """Splits those of the documents that exist into parts, to read one after the other.

        A part has at most ``most_bytes`` of content, or one document that has more. There is one part at
        least, which may be empty.
        """
        parts: list[list[Docno]] = [[]]
        held = 0
        for docno, size in self._database.read(lambda c: log.read_sizes(c, docnos)).items():
            if parts[-1] and held + size > most_bytes:
                parts.append([])
                held = 0
            parts[-1].append(docno)
            held += size
        return parts

    def read_changes(self, after: int, max_rows: int, max_bytes: int) -> list[Change]:
        found = self._database.read(lambda c: log.read_changes(c, self._key, after, max_rows, max_bytes))
        if self.view is as_stored:
            return found
        return [c if c.fields is None else replace(c, fields=self.view(c.fields)) for c in found]

    def read_versions(self) -> dict[Docno, tuple[str, int, bool]]:
        """Reads id, version and whether it is deleted, of every document that was ever written."""
        return self._database.read(
            lambda c: {
                docno: (id, version, gone) for docno, id, version, gone in log.read_versions(c, self._key)
            }
        )

    def count(self, until: int) -> int:
        """Counts documents as ``log.count_documents`` does."""
        return self._database.read(lambda c: log.count_documents(c, self._key, until))

    def find_deletion(self, after: int, until: int) -> int | None:
        """Finds a time as ``log.find_deletion`` does."""
        return self._database.read(lambda c: log.find_deletion(c, self._key, after, until))

    def read_last_sequence(self) -> int:
        return self._database.read(lambda c: log.read_last_sequence(c, self._key))

    def sample(self, size: int) -> list[Fields]:
        """Draws documents as ``log.sample_documents`` does, as they are viewed."""
        found = self._database.read(lambda c: log.sample_documents(c, self._key, size))
        return [self.view(fields) for fields in found]

    def _view(self, document: Document) -> Document:
        if self.view is as_stored:
            return document
        return replace(document, fields=self.view(document.fields))
