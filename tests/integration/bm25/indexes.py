"""Indexes on disk, and what tests put in and read."""

from collections.abc import Callable

from quarry.retrieval.base import LexicalResult
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import Field, FieldType, Schema
from quarry.types import Change, Docno, Fields

GENERATION = "g1"
PRICED = Schema((Field("text", FieldType.TEXT), Field("price", FieldType.INTEGER)))
Open = Callable[..., TantivyIndex]
"""Opens an index of a schema and a generation, which is closed after the test."""


def written(docno: int, text: str, **fields: int) -> Change:
    values: Fields = {"text": text, **fields}
    return Change(Docno(docno), docno + 1, values)


def filled(index: TantivyIndex, *texts: str) -> TantivyIndex:
    index.apply([written(n, text) for n, text in enumerate(texts)])
    index.commit(len(texts))
    return index


def docnos(result: LexicalResult) -> set[int]:
    return {int(candidate.docno) for candidate in result.candidates}
