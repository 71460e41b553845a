"""Documents of files, converted and packed into batches that one message holds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from quarry.client.channel import MAX_MESSAGE_BYTES
from quarry.client.upserts import Batch, Packer
from quarry.v1 import types_pb2
from quarry_cli.inputs.records import BadRecord, Record, read_records
from quarry_cli.inputs.values import FieldTypes, to_field_value

SHOWN_FAILURES = 10
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
    """The number of documents that failed, and the first few of them."""

    count: int = 0
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
    """

    types: FieldTypes
    batch_bytes: int
    failures: Failures

    def read_batches(self, files: Iterable[Path]) -> Iterator[FileBatch]:
        before = 0
        for path in files:
            yield from self.pack(read_records(path), before)
            before += path.stat().st_size

    def pack(self, records: Iterable[Record | BadRecord], before: int = 0) -> Iterator[FileBatch]:
        packer: Packer[_Placed] = Packer(lambda placed: placed.document.ByteSize(), self.batch_bytes)
        for record in records:
            document = self._read_document(record)
            if document is None or isinstance(record, BadRecord):
                continue
            if ready := packer.add(_Placed(document, record.where, record.position)):
                yield _make_file_batch(ready, before)
        if rest := packer.take_rest():
            yield _make_file_batch(rest, before)

    def _read_document(self, record: Record | BadRecord) -> types_pb2.Document | None:
        if isinstance(record, BadRecord):
            self.failures.add(record.where, "", record.problem)
            return None
        document = types_pb2.Document()
        name = "id"
        try:
            document.id = record.id
            for name, value in record.fields.items():
                document.fields[name].CopyFrom(to_field_value(value, self.types.get(name)))
            if document.ByteSize() > MAX_DOCUMENT_BYTES:
                name = "document"
                raise ValueError(f"has {document.ByteSize():,} bytes, over {MAX_DOCUMENT_BYTES:,}")
        except ValueError as error:  # UnicodeEncodeError, for half a surrogate pair, is one
            self.failures.add(record.where, record.id, f"{name} {error}")
            return None
        return document


def _make_file_batch(placed: list[_Placed], before: int) -> FileBatch:
    documents = [one.document for one in placed]
    return FileBatch(str(uuid4()), documents, [one.where for one in placed], before + placed[-1].position)
