"""The document log as the rest of Quarry uses it: grouped writes, reads on any thread."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from quarry.documents import log
from quarry.documents.log import Outcome, Upsert
from quarry.documents.outcomes import dump_document, dump_outcomes, load_document, load_outcomes
from quarry.documents.requests import once
from quarry.documents.writer import GroupCommitWriter, Write
from quarry.filters import Filter, matches
from quarry.types import Change, Docno, Document, Fields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestId:
    """What makes a write happen once.

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
    """The documents of one collection."""

    def __init__(self, database: Database, key: int) -> None:
        self._database, self._key = database, key

    async def upsert(self, upserts: Sequence[Upsert], request: RequestId) -> list[Outcome]:
        return await self._once(request, lambda c: log.upsert_documents(c, self._key, upserts))

    async def delete(self, ids: Sequence[str], request: RequestId) -> list[Outcome]:
        return await self._once(request, lambda c: log.delete_documents(c, self._key, ids))

    async def delete_by_filter(self, filter: Filter, request: RequestId) -> list[Outcome]:
        return await self._once(request, lambda c: log.delete_by_filter(c, self._key, filter))

    async def update(
        self,
        id: str,
        change: Callable[[Fields], Fields],
        if_version: int | None,
        allow_missing: bool,
        request: RequestId,
    ) -> Document:
        """As ``log.update_document``."""

        def write(connection: sa.Connection) -> Document:
            return once(
                connection,
                self._scope(request),
                request.id,
                request.request,
                lambda: log.update_document(connection, self._key, id, change, if_version, allow_missing),
                dump_document,
                load_document,
            )

        return await self._database.write(write)

    async def _once(
        self, request: RequestId, write: Callable[[sa.Connection], list[Outcome]]
    ) -> list[Outcome]:
        def run(connection: sa.Connection) -> list[Outcome]:
            return once(
                connection,
                self._scope(request),
                request.id,
                request.request,
                lambda: write(connection),
                dump_outcomes,
                load_outcomes,
            )

        return await self._database.write(run)

    def _scope(self, request: RequestId) -> str:
        return f"{self._key}/{request.method}"

    def get(self, id: str) -> Document | None:
        return self._database.read(lambda c: log.get_document(c, self._key, id))

    def page(
        self, after: str, limit: int, most_bytes: int, filter: Filter | None
    ) -> tuple[list[Document], bool]:
        """Documents that pass ``filter``, by id, from the first id above ``after``, and whether more follow.

        At most ``limit``, and no more once they have ``most_bytes`` of content together.
        """

        def read(connection: sa.Connection) -> tuple[list[Document], bool]:
            found: list[Document] = []
            size = 0
            for document, content in log.scan_documents(connection, self._key, after):
                if filter is not None and not matches(filter, document.fields):
                    continue
                if len(found) == limit or size >= most_bytes:
                    return found, True
                found.append(document)
                size += content
            return found, False

        return self._database.read(read)

    def ids(self, docnos: Collection[Docno]) -> Mapping[Docno, tuple[str, int]]:
        return self._database.read(lambda c: log.read_ids(c, docnos))

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]:
        return self._database.read(lambda c: log.read_documents(c, docnos))

    def changes(self, after: int, max_rows: int, max_bytes: int) -> list[Change]:
        return self._database.read(lambda c: log.read_changes(c, self._key, after, max_rows, max_bytes))

    def versions(self) -> dict[Docno, tuple[str, int, bool]]:
        """Id, version and whether it is deleted, of every document that was ever written."""
        return self._database.read(
            lambda c: {
                docno: (id, version, gone) for docno, id, version, gone in log.read_versions(c, self._key)
            }
        )

    def count(self, until: int) -> int:
        """As ``log.count_documents``."""
        return self._database.read(lambda c: log.count_documents(c, self._key, until))

    def last_sequence(self) -> int:
        return self._database.read(lambda c: log.last_sequence(c, self._key))
