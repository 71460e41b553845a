"""Queries and documents as short hashes: enough to know one again, too little to read it."""

import base64
import hashlib
from collections.abc import Iterable

BYTES = 8
"""Of a mark: among a million queries, two share one with a probability of 3e-8."""

Marks = frozenset[bytes]


def query_mark(text: str) -> bytes:
    """The same for texts that differ in case and in spaces alone."""
    return _mark(" ".join(text.split()).casefold())


def query_marks(texts: Iterable[str]) -> Marks:
    return frozenset(map(query_mark, texts))


def document_mark(collection: str, id: str) -> bytes:
    """Of the document with this id in the collection of this name."""
    return _mark(f"{collection}\0{id}")


def packed(marks: Iterable[bytes]) -> str:
    """In order, as base64: the same marks are the same text."""
    return base64.b64encode(b"".join(sorted(marks))).decode()


def unpacked(text: str) -> Marks:
    """Raises ValueError: it is not what ``packed`` makes."""
    data = base64.b64decode(text, validate=True)
    if len(data) % BYTES:
        raise ValueError(f"{len(data)} bytes are no marks of {BYTES}")
    return frozenset(data[start : start + BYTES] for start in range(0, len(data), BYTES))


def checked_marks(text: str) -> str:
    """``text``. Raises as ``unpacked``."""
    unpacked(text)
    return text


def _mark(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=BYTES).digest()
