"""The form of documents in a store of points: ids, checked vectors, pieces of bounded size, hits."""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.retrieval.base import MAX_PASSAGES, VectorChange
from quarry.types import Candidate, Docno, Fields

PASSAGE_BITS = 16
MAX_DOCNO = 2**48 - 1
MAX_TIE_HITS = 16_384
"""Hits fetched at most to settle by docno which of many equal documents are the first ones."""

UNIT_TOLERANCE = 1e-2


def make_point_id(docno: int, passage: int) -> int:
    """Makes the id of a passage's point: a search then needs no payload to name its document."""
    return docno << PASSAGE_BITS | passage


def read_docno(point: int) -> Docno:
    return Docno(point >> PASSAGE_BITS)


def read_passage(point: int) -> int:
    return point & (MAX_PASSAGES - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some passages of a document's new content, or its deletion.

    Attributes:
        docno: the document.
        version: sequence number of the write.
        first: passage number of the first row of ``vectors``; 0 opens a new content.
        total: passages that the whole content has; 0 with ``vectors`` None is a deletion.
        vectors: float32, shape ``(rows, dimension)``, or None.
        fields: values of the filterable fields.
    """

    docno: Docno
    version: int
    first: int
    total: int
    vectors: NDArray[np.float32] | None
    fields: Fields


@dataclass(frozen=True, slots=True, eq=False)
class PackedParts:
    """Parts on their way to another process: one array pickles in a third of the time of many.

    Attributes:
        heads: docno, version, first, total, rows (None for a deletion) and fields of each part.
        vectors: float32, the rows of all parts, one after another.
    """

    heads: list[tuple[Docno, int, int, int, int | None, Fields]]
    vectors: NDArray[np.float32]

    @classmethod
    def pack(cls, parts: Sequence[Part]) -> "PackedParts":
        heads = [
            (p.docno, p.version, p.first, p.total, None if p.vectors is None else len(p.vectors), p.fields)
            for p in parts
        ]
        given = [part.vectors for part in parts if part.vectors is not None]
        return cls(heads, np.concatenate(given) if given else np.empty((0, 0), np.float32))

    def unpack(self) -> list[Part]:
        found: list[Part] = []
        start = 0
        for docno, version, first, total, rows, fields in self.heads:
            end = start + (rows or 0)
            vectors = None if rows is None else self.vectors[start:end]
            found.append(Part(docno, version, first, total, vectors, fields))
            start = end
        return found


def check_vector(vector: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Checks ``vector`` and returns it as float32.

    Raises:
        ValueError: not of shape ``(dimension,)``, not finite, or not of unit length.
    """
    row = np.asarray(vector, dtype=np.float32)
    if row.shape != (dimension,):
        raise ValueError(f"vectors of shape {row.shape} are not ({dimension},)")
    square = float(row @ row)  # every search comes here twice: a tenth of what check_units costs
    if not math.isfinite(square):
        raise ValueError("vectors hold NaN or infinity")
    if abs(math.sqrt(square) - 1) > UNIT_TOLERANCE:
        raise ValueError("vectors are not of unit length")
    return row


def check_vectors(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Checks ``vectors`` and returns them as float32.

    Raises:
        ValueError: not of shape ``(rows, dimension)``, or too many rows.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimension or rows.shape[0] > MAX_PASSAGES:
        raise ValueError(f"vectors of shape {rows.shape} are not (at most {MAX_PASSAGES}, {dimension})")
    return rows


def check_units(rows: NDArray[np.float32]) -> None:
    """Refuses what the engines would store without complaint.

    Raises:
        ValueError: a row of ``rows``, shape ``(n, dimension)``, is not finite or not of unit length.
    """
    squares = np.einsum("ij,ij->i", rows, rows)  # NaN or infinity anywhere in a row shows in its sum
    if not np.isfinite(squares).all():
        raise ValueError("vectors hold NaN or infinity")
    if (np.abs(np.sqrt(squares) - 1) > UNIT_TOLERANCE).any():
        raise ValueError("vectors are not of unit length")


def keep_latest_changes(changes: Iterable[VectorChange], dimension: int) -> list[VectorChange]:
    """Keeps the last change of each docno, all of them checked; earlier ones would be replaced at once.

    Raises:
        ValueError: a docno is out of range, or as ``check_vectors`` and ``check_units``.
    """
    latest: dict[Docno, VectorChange] = {}
    for change in changes:
        docno = Docno(int(change.docno))  # a plain int: the clients take no integer of numpy
        if not 0 <= docno <= MAX_DOCNO:
            raise ValueError(f"docno {docno} is not in 0 to 2**48 - 1")
        latest.pop(docno, None)
        vectors = None if change.vectors is None else check_vectors(change.vectors, dimension)
        latest[docno] = VectorChange(docno, int(change.version), vectors, change.fields)
    given = [change.vectors for change in latest.values() if change.vectors is not None]
    if given:
        check_units(np.concatenate(given))  # all at once: this runs on the server's event loop
    return list(latest.values())


def cut_into_parts(change: VectorChange, rows: int) -> Iterator[Part]:
    """Yields the change in parts of at most ``rows`` passages, the first passage first."""
    if change.vectors is None:
        yield Part(change.docno, change.version, 0, 0, None, {})
        return
    total = len(change.vectors)
    for first in range(0, max(total, 1), rows):
        vectors = change.vectors[first : first + rows]
        yield Part(change.docno, change.version, first, total, vectors, change.fields)


def split_part_batches(changes: Iterable[VectorChange], rows: int) -> Iterator[list[Part]]:
    """Yields all parts in order, in batches of at most ``rows`` points and documents together."""
    batch: list[Part] = []
    size = 0
    for change in changes:
        for part in cut_into_parts(change, rows):
            cost = max(1, 0 if part.vectors is None else len(part.vectors))
            if batch and size + cost > rows:
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += cost
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Fetch:
    """A request for the ``limit`` nearest points of documents that are not in ``found``."""

    limit: int
    found: tuple[Docno, ...]


StoredPoint = tuple[int, NDArray[np.float32] | None]
"""Point id, and its vector, if it has one."""


def gather_vectors(points: Iterable[StoredPoint], dimension: int) -> dict[Docno, NDArray[np.float32]]:
    """Gathers vectors by document, passage n in row n; a row is zero where a point before the last one is
    lost.

    A document whose only point has no vector has no passages.
    """
    points = list(points)
    passages: dict[Docno, list[int]] = {read_docno(point): [] for point, _ in points}
    for point, vector in points:
        if vector is not None or read_passage(point):
            passages[read_docno(point)].append(read_passage(point))
    found = {d: np.zeros((max(p, default=-1) + 1, dimension), np.float32) for d, p in passages.items()}
    for point, vector in points:
        if vector is not None:
            found[read_docno(point)][read_passage(point)] = vector
    return found


Hits = Sequence[tuple[int, float]]
"""Point id and score, best first."""


def collect_documents(depth: int) -> Generator[Fetch, Hits, list[Candidate]]:
    """Asks for points until they are of ``depth`` documents, or no more match, and returns those.

    It knows no engine: who runs it answers each ``Fetch``, blocking or not. A document found once is
    complete, as its best passage came first, so the next fetch leaves it out. Documents with the score of
    the last place are all fetched, up to ``MAX_TIE_HITS`` points, so that ties go by docno.

    Twice as many points as documents to begin with: passages of one document come together, and a second
    fetch, which has to leave out what the first one found, costs three times a first one.
    """
    best: dict[Docno, tuple[float, int]] = {}  # (minus score, passage): the least is the best
    limit, fetched = 2 * depth, 0
    while True:
        hits = yield Fetch(limit, tuple(best))
        fetched += len(hits)
        for point, score in hits:
            docno, place = read_docno(point), (-score, read_passage(point))
            held = best.get(docno)
            if held is None or place < held:
                best[docno] = place
        enough = len(best) >= depth and fetched >= MAX_TIE_HITS
        ranked = sorted((place[0], docno, place[1]) for docno, place in best.items())[:depth]
        if len(hits) < limit or enough or (len(ranked) == depth and -ranked[-1][0] > hits[-1][1]):
            return [Candidate(docno, -negative, passage) for negative, docno, passage in ranked]
        limit *= 4
