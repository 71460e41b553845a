"""Queries and documents as short hashes: enough to know one again, too little to read it."""

import base64
import hashlib
from collections.abc import Iterable

from quarry.questions import question_key

BYTES = 8
"""Of a mark: among a million queries, two share one with a probability of 3e-8."""

Marks = frozenset[bytes]


def query_mark(text: str) -> bytes:
    """The same for all texts that are one question."""
    return _mark(question_key(text))


def former_query_mark(text: str) -> bytes:
    """What was stored of a text while only case and spaces did not matter. For most texts it is the same.

    A hash does not tell its text, so marks on disk stay as they are, and whoever knows a text asks for both.
    """
    return _mark(" ".join(text.split()).casefold())


def renewed(stored: Marks, texts: Iterable[str]) -> Marks:
    """``stored``, where former marks of ``texts`` are replaced by those that are made today."""
    former = {former_query_mark(text): query_mark(text) for text in texts}
    return frozenset(former.get(mark, mark) for mark in stored)


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
