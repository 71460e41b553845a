"""Queries and documents as short hashes: enough to know one again, too little to read it."""

import base64
import hashlib
from collections.abc import Iterable

from quarry.questions import make_question_key

BYTES = 8
"""Of a mark: among a million queries, two share one with a probability of 3e-8."""

Marks = frozenset[bytes]


def mark_query(text: str) -> bytes:
    """Hashes a query: the same for all texts that are one question."""
    return _hash_text(make_question_key(text))


def mark_former_query(text: str) -> bytes:
    """Hashes a query as it was stored while only case and spaces did not matter. For most texts it is the
    same.

    A hash does not tell its text, so marks on disk stay as they are, and whoever knows a text asks for both.
    """
    return _hash_text(" ".join(text.split()).casefold())


def renew_marks(stored: Marks, texts: Iterable[str]) -> Marks:
    """Replaces former marks of ``texts`` in ``stored`` by those that are made today."""
    former = {mark_former_query(text): mark_query(text) for text in texts}
    return frozenset(former.get(mark, mark) for mark in stored)


def mark_queries(texts: Iterable[str]) -> Marks:
    return frozenset(map(mark_query, texts))


def mark_document(collection: str, id: str) -> bytes:
    """Hashes the id of a document in the collection of this name."""
    return _hash_text(f"{collection}\0{id}")


def pack_marks(marks: Iterable[bytes]) -> str:
    """Writes the marks in order, as base64: the same marks are the same text."""
    return base64.b64encode(b"".join(sorted(marks))).decode()


def unpack_marks(text: str) -> Marks:
    """Reads what ``pack_marks`` has written. Raises ValueError for any other text."""
    data = base64.b64decode(text, validate=True)
    if len(data) % BYTES:
        raise ValueError(f"{len(data)} bytes are no marks of {BYTES}")
    return frozenset(data[start : start + BYTES] for start in range(0, len(data), BYTES))


def check_marks(text: str) -> str:
    """Checks ``text`` and returns it. Raises as ``unpack_marks``."""
    unpack_marks(text)
    return text


def _hash_text(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=BYTES).digest()
