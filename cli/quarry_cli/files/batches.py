"""Documents of files, converted and packed into batches that one message holds."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from quarry.client.channel import MAX_MESSAGE_BYTES
from quarry.client.upserts import Batch, Packer
from quarry.schema import FieldType
from quarry.v1 import types_pb2
from quarry_cli.files.inference import split_cell
from quarry_cli.files.records import BadRecord, Record
from quarry_cli.files.value_kinds import is_nan
from quarry_cli.inputs.values import FieldTypes, to_field_value

SHOWN_FAILURES = 10
NUMBERS = (FieldType.INTEGER, FieldType.FLOAT)
ZEROS_IN_FRONT = re.compile(r"\s*[+-]?0\d")
MAX_DOCUMENT_BYTES = MAX_MESSAGE_BYTES - 2**16
"""Largest document that a message holds; the server's limit on documents is lower, and its own to state."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that was not written, and why."""

    where: str
    id: str
    reason: str


@dataclass(slots=True)
class Failures:
    """The number of documents that failed, and the first few of them.

    Attributes:
        not_numbers: values that were NaN, and were left out.
    """

    count: int = 0
    not_numbers: int = 0
    first: list[Failure] = field(default_factory=list)

    def add(self, where: str, id: str, reason: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN_FAILURES:
            self.first.append(Failure(where, id, reason))


@dataclass(frozen=True, slots=True)
class FileBatch(Batch):
    """Documents of files, for one message.

    Attributes:
        places: where each document stands in its file.
        position: bytes of all files read when the batch was closed.
    """

    places: list[str]
    position: int


class _Placed(NamedTuple):
    document: types_pb2.Document
    where: str
    position: int


@dataclass(frozen=True, slots=True)
class FilePacker:
    """Makes batches of at most ``batch_bytes``, or of one larger document.

    Attributes:
        types: of the collection's fields.
        batch_bytes: largest batch.
        failures: takes what cannot be sent.
        list_separator: between the values of one cell, in all fields but text; empty: a cell is one value.
        exact: whether a whole number refuses zeros in front. The first records had none, or the field
            would be a keyword.
    """

    types: FieldTypes
    batch_bytes: int
    failures: Failures
    list_separator: str = ""
    exact: bool = False

    def pack(self, records: Iterable[Record | BadRecord]) -> Iterator[FileBatch]:
        packer: Packer[_Placed] = Packer(lambda placed: placed.document.ByteSize(), self.batch_bytes)
        for record in records:
            document = self._read_document(record)
            if document is None or isinstance(record, BadRecord):
                continue
            if ready := packer.add(_Placed(document, record.where, record.position)):
                yield _make_file_batch(ready)
        if rest := packer.take_rest():
            yield _make_file_batch(rest)

    def _read_document(self, record: Record | BadRecord) -> types_pb2.Document | None:
        if isinstance(record, BadRecord):
            self.failures.add(record.where, "", record.problem)
            return None
        document = types_pb2.Document()
        name = "id"
        try:
            document.id = record.id
            for name, value in record.fields.items():
                if (found := self._convert(value, self.types.get(name))) is not None:
                    document.fields[name].CopyFrom(found)
            if document.ByteSize() > MAX_DOCUMENT_BYTES:
                name = "document"
                raise ValueError(f"has {document.ByteSize():,} bytes, over {MAX_DOCUMENT_BYTES:,}")
        except ValueError as error:  # UnicodeEncodeError, for half a surrogate pair, is one
            self.failures.add(record.where, record.id, f"{name} {error}")
            return None
        return document

    def _convert(self, value: Any, kind: FieldType | None) -> types_pb2.FieldValue | None:
        """Converts one value, or None if a column of numbers says that there is none. Raises ValueError."""
        if self.list_separator and kind not in (None, FieldType.TEXT):
            parts = split_cell(value, self.list_separator)
            value = parts if len(parts) != 1 else parts[0]
        if kind in NUMBERS and is_nan(value):
            self.failures.not_numbers += 1
            return None
        if self.exact and kind is FieldType.INTEGER:
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and ZEROS_IN_FRONT.match(one):
                    raise ValueError(f"is {one[:60]!r}, whose zeros in front a whole number would lose")
        return to_field_value(value, kind)


def _make_file_batch(placed: list[_Placed]) -> FileBatch:
    documents = [one.document for one in placed]
    return FileBatch(str(uuid4()), documents, [one.where for one in placed], placed[-1].position)
