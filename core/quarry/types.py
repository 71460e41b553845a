"""The words of the domain, as frozen values: what a query is, what arms propose, what is shown."""

from dataclasses import dataclass
from typing import NewType

Docno = NewType("Docno", int)
"""Internal number of a document id, unsigned, below 2**48; never reused for another id."""

FieldScalar = str | int | float | bool
"""One value as it is stored: a TIMESTAMP is an ``int`` of microseconds since 1970."""

FieldValue = FieldScalar | list[str] | list[int] | list[float] | list[bool]
Fields = dict[str, FieldValue]
"""A document's values by field name; checked against a schema by ``quarry.schema``."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the log holds it.

    Attributes:
        docno: what both arms call it.
        id: what its owner calls it, 1 to 512 bytes.
        fields: its values.
        version: sequence number of its last write, from 1.
        update_time_us: when that write was accepted, microseconds since 1970.
    """

    docno: Docno
    id: str
    fields: Fields
    version: int
    update_time_us: int


@dataclass(frozen=True, slots=True)
class Change:
    """One step of following the log.

    Attributes:
        docno: the document.
        version: sequence number of the write.
        fields: the whole document after it, or None if the write deleted it.
    """

    docno: Docno
    version: int
    fields: Fields | None


@dataclass(frozen=True, slots=True)
class Position:
    """The place in the log that an index has followed it to.

    Attributes:
        generation: which index this is; a position of another generation means nothing.
        sequence: all writes up to this one are applied.
    """

    generation: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that one arm proposes.

    Attributes:
        docno: the document.
        score: raw score of the arm, higher is better: a BM25 sum (0 or more) or a cosine (-1 to 1).
        passage: which passage of the document scored, from 0; always 0 for BM25.
    """

    docno: Docno
    score: float
    passage: int = 0

    def __reduce__(self) -> tuple[type["Candidate"], tuple[Docno, float, int]]:
        """Takes half the time of what frozen dataclasses do; hundreds are pickled for each search."""
        return Candidate, (self.docno, self.score, self.passage)
