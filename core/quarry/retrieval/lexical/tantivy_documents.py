"""The form of a collection's documents, and of the marker that holds the position, in Tantivy."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tantivy

from quarry.errors import DataLossError, InvalidArgumentError
from quarry.retrieval.lexical.analysis import (
    build_cutter,
    build_surface_cutter,
    make_surface_tokens,
    make_tokens,
    name_analyser,
)
from quarry.retrieval.lexical.cutting import TextCutter
from quarry.retrieval.lexical.excerpts.tantivy_excerpts import ExcerptValues, add_excerpt_fields
from quarry.retrieval.lexical.text_fields import list_indexed_fields, name_surface_field
from quarry.schema import Field, FieldType, Schema, as_list
from quarry.types import Change, Docno, Position

# No field of a collection begins with an underscore.
DOCNO, VERSION = "_docno", "_version"
GENERATION, SEQUENCE = "_generation", "_sequence"
KIND, DOCUMENT, MARKER = "_kind", 0, 1
"""Field that tells documents from the marker, and its values."""


def make_index_schema(schema: Schema, excerpts: bool = False) -> tantivy.Schema:
    """Makes the Tantivy schema, for all text or for ``excerpts``.

    Of all text nothing is stored, since hits are hydrated from the log.

    Positions of words are kept, for phrases. Filterable fields are fast fields too, which ranges and
    ``exists`` read. TIMESTAMP is an i64, for Tantivy cuts its dates to seconds. So are docnos: of an unsigned
    field the binding deletes by an i64 term, which never matches, and says nothing.
    """
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field(KIND, indexed=True)
    builder.add_integer_field(DOCNO, indexed=True, fast=True)
    builder.add_integer_field(VERSION, fast=True)
    builder.add_text_field(GENERATION, stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_integer_field(SEQUENCE, stored=True)
    if excerpts:
        add_excerpt_fields(builder)
    for text in () if excerpts else list_indexed_fields(schema):
        builder.add_text_field(text.name, tokenizer_name=name_analyser(text.language))
    for field in () if excerpts else schema.searchable:
        name = name_surface_field(field.name)
        builder.add_text_field(
            name, tokenizer_name=name_analyser(field.language, stems=False), index_option="basic"
        )
    for field in schema.filterable:
        _add_field(builder, field)
    return builder.build()


def _add_field(builder: tantivy.SchemaBuilder, field: Field) -> None:
    match field.type:
        case FieldType.KEYWORD:
            builder.add_text_field(field.name, fast=True, tokenizer_name="raw", index_option="basic")
        case FieldType.INTEGER | FieldType.TIMESTAMP:
            builder.add_integer_field(field.name, indexed=True, fast=True)
        case FieldType.FLOAT:
            builder.add_float_field(field.name, indexed=True, fast=True)
        case FieldType.BOOLEAN:
            builder.add_boolean_field(field.name, indexed=True, fast=True)


def make_keyword_term(keyword: str) -> str:
    """Writes ``keyword`` as hexadecimal digits after an ``x``, which sort as its UTF-8 bytes do.

    The Python binding builds string ranges only through Tantivy's query parser; terms of these characters
    mean nothing to its grammar. The ``x`` gives the empty keyword a term.
    """
    return "x" + keyword.encode().hex()


def read_keyword_term(term: str) -> str:
    """Reads the keyword that ``make_keyword_term`` wrote."""
    return bytes.fromhex(term[1:]).decode()


@dataclass(frozen=True, slots=True)
class _SearchedField:
    """A searched field of the schema.

    Attributes:
        indexed: fields of the index that hold its analysed text.
        surface: the field of the index that holds its words as they are written.
    """

    name: str
    indexed: Sequence[str]
    surface: str
    cutter: TextCutter
    surface_cutter: TextCutter


@dataclass(frozen=True, slots=True)
class MadeDocument:
    """A document that Tantivy can take, but for the texts that its analyser would cut wrongly.

    Those are cut in ``complete``, right before the document is added: words take many times the memory of
    their text.
    """

    document: tantivy.Document
    texts: Sequence[tuple[_SearchedField, str]]

    def complete(self) -> tantivy.Document:
        for field, text in self.texts:
            tokens = make_tokens(field.cutter, text)
            for name in field.indexed:
                self.document.add_pre_tokenized_text(name, tokens)
            surfaces = make_surface_tokens(field.surface_cutter, text)
            self.document.add_pre_tokenized_text(field.surface, surfaces)
        return self.document


def _list_searched_fields(schema: Schema) -> list[_SearchedField]:
    texts = list_indexed_fields(schema)
    return [
        _SearchedField(
            field.name,
            [text.name for text in texts if field.name in text.sources],
            name_surface_field(field.name),
            build_cutter(field.language),
            build_surface_cutter(field.language),
        )
        for field in schema.searchable
    ]


class DocumentMaker:
    """Makes Tantivy documents of changes, checked so that no value can kill the writer."""

    def __init__(self, schema: Schema, engine_schema: tantivy.Schema, excerpts: bool = False) -> None:
        self._engine_schema = engine_schema
        self._excerpts = ExcerptValues(schema) if excerpts else None
        self._searched = [] if excerpts else _list_searched_fields(schema)
        self._filterable: list[tuple[str, Callable[[str], str] | None]] = [
            (f.name, make_keyword_term if f.type is FieldType.KEYWORD else None) for f in schema.filterable
        ]

    def make_document(self, change: Change) -> MadeDocument:
        """Makes the document after ``change``, which is no deletion.

        Raises:
            InvalidArgumentError: a value is not of its field's type.
        """
        values: dict[str, Any] = {KIND: DOCUMENT, DOCNO: change.docno, VERSION: change.version}
        fields = change.fields or {}
        to_cut: list[tuple[_SearchedField, str]] = []
        try:
            for field in self._searched:
                plain: list[str] = []
                for value in as_list(fields.get(field.name)):
                    normal = field.cutter.normalize(value)
                    if field.cutter.is_plain(normal):
                        plain.append(normal)
                    else:
                        normal.encode()  # raises ValueError for what is no text
                        to_cut.append((field, normal))
                for name in (*field.indexed, field.surface):
                    values.setdefault(name, []).extend(plain)
            for name, encode in self._filterable:
                if name in fields:
                    given = fields[name]
                    values[name] = given if encode is None else _encode_values(encode, as_list(given))
            if self._excerpts is not None:
                values |= self._excerpts.make_values(change)
            return MadeDocument(tantivy.Document.from_dict(values, self._engine_schema), to_cut)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgumentError("fields", f"of document {change.docno}: {error}"[:500]) from error


def _encode_values(encode: Callable[[str], str], values: Iterable[str]) -> list[str]:
    return [encode(value) for value in values]


def make_marker_document(position: Position) -> tantivy.Document:
    """Makes the one document that is no document: it has no docno, and its fields are no field of a
    collection."""
    marker = tantivy.Document()
    marker.add_integer(KIND, MARKER)
    marker.add_text(GENERATION, position.generation)
    marker.add_integer(SEQUENCE, position.sequence)
    return marker


def count_documents(searcher: tantivy.Searcher) -> int:
    """Counts as the engine does for BM25: the marker and what is deleted but not yet merged away included."""
    return searcher.doc_freq(KIND, DOCUMENT) + searcher.doc_freq(KIND, MARKER)


def count_hits(found: tantivy.SearchResult) -> int:
    count: int = found.count  # type: ignore[attr-defined]  # missing from the stub
    return count


def find_beside_deleted(searcher: tantivy.Searcher, thorough: bool) -> list[Docno]:
    """Finds documents as ``LexicalIndex.find_beside_deleted`` does.

    The engine drops a segment when none of its documents is left, and does not say which has lost some: it
    numbers the documents of a segment, so that a number is missing where one was deleted, unless it was the
    last.
    """
    every = tantivy.Query.exists_query(DOCNO)
    count = count_hits(searcher.search(every, 1))
    if searcher.doc_freq(KIND, DOCUMENT) == count:
        return []
    living: dict[int, list[tuple[int, Docno]]] = {}
    for docno, address in searcher.search(every, max(count, 1), order_by_field=DOCNO).hits:
        living.setdefault(address.segment_ord, []).append((address.doc, Docno(int(docno))))
    return [
        docno
        for segment in living.values()
        if thorough or max(number for number, _ in segment) >= len(segment)
        for _, docno in segment
    ]


def read_position(searcher: tantivy.Searcher, engine_schema: tantivy.Schema) -> Position | None:
    """Reads what the marker says; None in an index that was never committed to.

    Raises:
        DataLossError: there are documents but not exactly one marker.
    """
    hits = searcher.search(tantivy.Query.term_query(engine_schema, KIND, MARKER), limit=2).hits
    if not hits and not searcher.num_docs:
        return None
    if len(hits) != 1:
        raise DataLossError(f"the lexical index has {len(hits)} positions, not one")
    marker = searcher.doc(hits[0][1])
    return Position(str(marker.get_first(GENERATION)), int(marker.get_first(SEQUENCE) or 0))
