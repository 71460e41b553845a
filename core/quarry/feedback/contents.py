"""The text of each logged hit: read from the document log once, kept by hash, remembered by version."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import orjson
import sqlalchemy as sa
from cachetools import LRUCache

from quarry.documents.tables import documents
from quarry.feedback.hits import CONTENT_BYTES
from quarry.feedback.types import Impression, LoggedHit
from quarry.types import Docno, Document, Fields

_READ_AT_ONCE = 200

Place = tuple[int, Docno, int]
"""Where a text stands: collection, document, version."""
Texts = dict[tuple[bytes, int], str]
"""Texts by their hash and collection."""


class DocumentReader(Protocol):
    """The document log of a collection; calls block."""

    def read(self, docnos: Collection[Docno]) -> Mapping[Docno, Document]: ...


@dataclass(frozen=True, slots=True)
class TextSource:
    """The source of a collection's texts.

    Attributes:
        key: the collection's.
        text: what is kept of a document: what a re-ranker reads of it.
    """

    key: int
    documents: DocumentReader
    text: Callable[[Fields], str]


KnownContents: TypeAlias = LRUCache[Place, bytes]
"""Hashes of texts that the feedback log keeps, by place."""


def read_texts(source: TextSource, wanted: Iterable[tuple[Docno, int]]) -> tuple[dict[Place, bytes], Texts]:
    """Reads hashes and texts of those of the versions that are still current. Blocks."""
    versions: dict[Docno, set[int]] = {}
    for docno, version in wanted:
        versions.setdefault(docno, set()).add(version)
    contents: dict[Place, bytes] = {}
    texts: Texts = {}
    docnos = list(versions)
    for start in range(0, len(docnos), _READ_AT_ONCE):
        for docno, document in source.documents.read(docnos[start : start + _READ_AT_ONCE]).items():
            if document.version in versions[docno]:
                text = source.text(document.fields)
                content = hash_content(text)
                contents[source.key, docno, document.version] = content
                texts[content, source.key] = text
    return contents, texts


def with_contents(impression: Impression, content: Callable[[LoggedHit], bytes | None]) -> Impression:
    """Adds to ``impression`` the hash of each hit's text, where there is one."""

    def fill_hits(hits: Sequence[LoggedHit]) -> tuple[LoggedHit, ...]:
        return tuple(replace(hit, content=(content(hit) or b"").hex()) for hit in hits)

    return replace(impression, shown=fill_hits(impression.shown), pool=fill_hits(impression.pool))


def read_documents_by_id(connection: sa.Connection, key: int, ids: Sequence[str]) -> dict[str, Document]:
    """Reads those of a collection's documents that exist, by id; for logs whose hits have no docno."""
    c = documents.c
    found: dict[str, Document] = {}
    for start in range(0, len(ids), _READ_AT_ONCE):
        some = ids[start : start + _READ_AT_ONCE]
        query = sa.select(documents).where(c.collection_id == key, c.id.in_(some), c.deleted.is_(False))
        for row in connection.execute(query):
            fields = orjson.loads(row.fields)
            found[row.id] = Document(row.docno, row.id, fields, row.version, row.update_time_us)
    return found


def hash_content(text: str) -> bytes:
    """Computes the hash, 16 bytes, under which the log keeps a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=CONTENT_BYTES).digest()
