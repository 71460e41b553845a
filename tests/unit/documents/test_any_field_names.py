"""What is searched, weighed and cut depends on the schema, and not on what its fields are called."""

from dataclasses import replace
from pathlib import Path

import pytest

from quarry.documents.passages import cut_passages_by_words
from quarry.documents.vectors import read_source
from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.schema import DEFAULT_SCHEMA, Schema
from quarry.types import Change, Docno, Fields

NAMES = {"title": "product.name", "text": "description"}
OWN_SCHEMA = Schema(tuple(replace(field, name=NAMES[field.name]) for field in DEFAULT_SCHEMA.fields))
DOCUMENTS: list[Fields] = [
    {"title": "Trail shoe", "text": "A light shoe with deep grip. " * 60},
    {"title": "Rain jacket", "text": ["Packable.", "It keeps the rain off a shoe."]},
    {"title": "Socks", "text": "Thin and warm, for a boot"},
]


def rename(fields: Fields) -> Fields:
    return {NAMES[name]: value for name, value in fields.items()}


@pytest.mark.parametrize("fields", DOCUMENTS)
def test_passages_are_the_same_whatever_the_fields_are_called(fields: Fields) -> None:
    usual, own = read_source(DEFAULT_SCHEMA, fields), read_source(OWN_SCHEMA, rename(fields))
    assert own == usual
    passages = cut_passages_by_words(own)
    assert passages == cut_passages_by_words(usual)
    assert all(passage.startswith(f"{fields['title']}\n") for passage in passages)


def test_bm25_scores_are_the_same_whatever_the_fields_are_called(tmp_path: Path) -> None:
    found = []
    for schema, documents in ((DEFAULT_SCHEMA, DOCUMENTS), (OWN_SCHEMA, [rename(d) for d in DOCUMENTS])):
        index = TantivyIndex(tmp_path / str(len(found)), "g", schema, heap_bytes=15_000_000)
        index.apply([Change(Docno(n), n + 1, fields) for n, fields in enumerate(documents)])
        index.commit(3)
        found.append([index.search(query, 10, None) for query in ("trail shoes", "warm socks", "rain")])
        index.close()
    usual, own = found
    assert own == usual
    assert [[c.docno for c in result.candidates] for result in own] == [[0, 1], [2], [1]]
