"""Words as an index on disk cuts, folds and stems them."""

import pytest
from tests.integration.bm25.indexes import Open, docnos, filled

from quarry.retrieval.lexical.analysis import MAX_WORD_BYTES
from quarry.schema import LANGUAGES, Field, FieldType, Schema
from quarry.types import Change, Docno


def test_words_up_to_255_bytes_are_found_and_longer_ones_left_out(open_index: Open) -> None:
    longest, over = "é" * (MAX_WORD_BYTES // 2) + "x", "y" * (MAX_WORD_BYTES + 1)
    assert len(longest.encode()) == MAX_WORD_BYTES
    index = filled(open_index(), f"{longest} one", f"{over} two")
    assert docnos(index.search(longest, 9, None)) == {0}
    assert docnos(index.search(over, 9, None)) == set()
    assert docnos(index.search("two", 9, None)) == {1}


def test_words_match_however_their_accents_are_encoded(open_index: Open) -> None:
    index = filled(open_index(), "un caf\u00e9 noir", "un cafe\u0301 blanc", "a cafe")
    for query in ("caf\u00e9", "cafe\u0301", "CAFE", "cafes"):
        assert docnos(index.search(query, 9, None)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("language", "text", "query", "found"),
    [
        ("en", "The runners were running", "run", True),
        ("en", "to be or not to be", "not", True),
        ("de", "viele Häuser", "Haus", True),
        ("fr", "les chevaux continuaient", "continuer", True),
        ("ru", "новые книги", "книга", True),
        ("none", "running", "run", False),
        ("none", "Ünïcode RUNNING", "ünïcode", True),
    ],
)
def test_text_is_analysed_by_the_language_of_its_field(
    open_index: Open, language: str, text: str, query: str, found: bool
) -> None:
    index = filled(open_index(Schema((Field("text", FieldType.TEXT, language=language),))), text)
    assert docnos(index.search(query, 9, None)) == ({0} if found else set())


def test_every_language_of_a_schema_can_be_indexed_and_searched(open_index: Open) -> None:
    fields = tuple(Field(f"text_{code}", FieldType.TEXT, language=code) for code in LANGUAGES)
    index = open_index(Schema(fields))
    index.apply([Change(Docno(n), 1, {field.name: "Quarry"}) for n, field in enumerate(fields)])
    index.commit(1)
    assert docnos(index.search("quarry", 99, None)) == set(range(len(fields)))
