"""The rows of files, and the documents that are made of them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One record as a file has it.

    Attributes:
        where: file and line, or file and row.
        content: its values by the names of the file; None where there is none.
        position: bytes of the file read so far, for progress; packed ones if it is packed.
    """

    where: str
    content: dict[str, Any]
    position: int


@dataclass(frozen=True, slots=True)
class Record:
    """One document, before the schema has seen its values.

    Attributes:
        where: file and line, or file and row.
        id: of the document.
        fields: its values by field name.
        position: bytes read so far, of this file and those before it.
    """

    where: str
    id: str
    fields: dict[str, Any]
    position: int


@dataclass(frozen=True, slots=True)
class BadRecord:
    """The place of a bad record where a document should be, and what is wrong with it."""

    where: str
    problem: str
