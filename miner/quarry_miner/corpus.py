"""The documents of a collection as mining sees them: numbered, texts read on demand, copies known."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from quarry.documents import log
from quarry.documents.passages import SourceText
from quarry.documents.store import Database
from quarry.documents.vectors import SourceReader
from quarry.documents.view import View, as_stored
from quarry.questions import has_words
from quarry.schema import Schema
from quarry.types import Docno, Fields
from quarry_miner.examples import Bool, Int32

BATCH = 2_000
"""Documents that are read at a time."""

WHITE_SPACE = b" \t\n\r\f\v"
HEAD_CHARACTERS, HEAD_BYTES = 256, 64
"""Read of the beginning of a text, and kept of it without white space: few texts begin alike."""

ReadFields = Callable[[Sequence[int]], list[Fields]]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A snapshot: what is written later is not in it. Some 150 bytes a document; texts stay where they are.

    Attributes:
        ids: by number.
        groups: int32, shape ``(n,)``: the least number of the documents with the same text, case and white
            space ignored; a document without a copy has its own number, one without text always.
        telling: bool, shape ``(n,)``: whether a document has a word; one without is neither a positive nor a
            negative.
        schema: of the documents' fields.
        read: the fields of documents by number; empty for one that was deleted meanwhile.
        numbers: by id.
        copies: all documents of a group, by its number; groups of one are left out.
        wordless: int32: numbers of the documents that are not ``telling``, ascending.
    """

    ids: tuple[str, ...]
    groups: Int32
    telling: Bool
    schema: Schema
    read: ReadFields
    numbers: dict[str, int] = field(init=False)
    copies: dict[int, Int32] = field(init=False)
    wordless: Int32 = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", {id: number for number, id in enumerate(self.ids)})
        several = np.unique(self.groups[self.groups != np.arange(len(self.groups))])
        copies = {int(group): np.flatnonzero(self.groups == group).astype(np.int32) for group in several}
        object.__setattr__(self, "copies", copies)
        object.__setattr__(self, "wordless", np.flatnonzero(~self.telling).astype(np.int32))

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_documents(cls, documents: Sequence[tuple[str, Fields]], schema: Schema) -> "Corpus":
        """Makes a corpus of documents in memory, each id once."""
        reader = SourceReader(schema)
        fields = [f for _, f in documents]
        texts = [_read_text(reader.read(f)) for f in fields]
        alike = _group_by_beginning(texts)
        groups = np.arange(len(texts), dtype=np.int32)
        groups[alike] = alike[_group(texts[number] for number in alike.tolist())]
        telling = np.array([has_words(text) for text in texts], np.bool_)
        ids = tuple(id for id, _ in documents)
        return cls(ids, groups, telling, schema, lambda some: [fields[n] for n in some])

    @classmethod
    def from_log(cls, database: Database, key: int, schema: Schema, view: View = as_stored) -> "Corpus":
        """Reads all documents of a collection in the log, as they are viewed, in order of id. Blocks."""
        ids: list[str] = []
        docnos: list[Docno] = []
        telling = bytearray()
        reader = SourceReader(schema)
        with database.engine.connect() as connection:

            def read_texts() -> Iterator[str]:
                for document, _ in log.scan_documents(connection, key):
                    ids.append(document.id)
                    docnos.append(document.docno)
                    text = _read_text(reader.read(view(document.fields)))
                    telling.append(has_words(text))
                    yield text

            groups = _group(read_texts())

        def read(numbers: Sequence[int]) -> list[Fields]:
            wanted = [docnos[number] for number in numbers]
            found = database.read(lambda c: log.read_documents(c, wanted))
            return [view(found[docno].fields) if docno in found else {} for docno in wanted]

        return cls(tuple(ids), groups, np.frombuffer(telling, np.bool_), schema, read)

    def with_copies(self, numbers: Int32) -> Int32:
        """Adds to the documents all that have the same text as one of them, ascending."""
        if not self.copies:
            return np.sort(numbers)
        groups = self.groups[numbers].tolist()
        found = [self.copies[group] for group in groups if group in self.copies]
        return np.unique(np.concatenate([numbers, *found])) if found else np.unique(numbers)

    def iterate_batches(self) -> Iterator[list[Fields]]:
        """Yields the fields of all documents, in order."""
        for start in range(0, len(self), BATCH):
            yield self.read(range(start, min(start + BATCH, len(self))))

    def read_sources(self, numbers: Sequence[int]) -> list[SourceText]:
        """Reads what the encoder reads of documents."""
        reader = SourceReader(self.schema)
        return [reader.read(fields) for fields in self.read(numbers)]

    def read_texts(self, numbers: Sequence[int]) -> list[str]:
        """Reads title and text of documents, as a word count reads them."""
        return [_read_text(source) for source in self.read_sources(numbers)]

    def iterate_texts(self) -> Iterator[str]:
        """Yields the text of every document, in order, a batch in memory at a time."""
        for start in range(0, len(self), BATCH):
            yield from self.read_texts(range(start, min(start + BATCH, len(self))))


def _read_text(source: SourceText) -> str:
    """Reads a document's title and text in one."""
    return f"{source.title}\n{source.text}".strip()


def _group_by_beginning(texts: Sequence[str]) -> Int32:
    """Groups the texts that begin as another does. No other has a copy, so no other is read whole."""
    first: dict[bytes, int] = {}
    places = np.array(
        [first.setdefault(_hash_head(text), number) for number, text in enumerate(texts)], np.int32
    )
    return np.flatnonzero(np.bincount(places)[places] > 1).astype(np.int32)


def _hash_head(text: str) -> bytes:
    """Hashes the beginning: the same of two texts that differ in case and white space only."""
    head = _simplify(text[:HEAD_CHARACTERS])
    if len(head) < HEAD_BYTES and len(text) > HEAD_CHARACTERS:
        head = _simplify(text)
    return head[:HEAD_BYTES]


def _simplify(text: str) -> bytes:
    # Splitting into words and joining them again takes five times as long as deleting what is between.
    return text.casefold().encode("utf-8", "surrogatepass").translate(None, WHITE_SPACE)


def _group(texts: Iterable[str]) -> Int32:
    first: dict[bytes, int] = {}
    groups: list[int] = []
    for number, text in enumerate(texts):
        plain = _simplify(text)
        digest = hashlib.blake2b(plain, digest_size=16).digest()
        groups.append(first.setdefault(digest, number) if plain else number)
    return np.array(groups, np.int32)
