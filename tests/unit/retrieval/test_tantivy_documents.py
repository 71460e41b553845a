"""A document is prepared for the index without doing anything twice."""

from collections import Counter

import pytest

from quarry.retrieval.lexical.cutting import Run, TextCutter, Word
from quarry.retrieval.lexical.tantivy_documents import DocumentMaker, make_index_schema
from quarry.schema import Field, FieldType, Schema
from quarry.types import Change, Docno

SCHEMA = Schema(
    (
        Field("title", FieldType.TEXT, boost=0.3, is_title=True),
        Field("text", FieldType.TEXT),
        Field("note", FieldType.TEXT, language="pt"),
    )
)


def test_each_text_is_normalised_once_and_cut_once_for_stems_and_once_for_surfaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    normalised: Counter[str] = Counter()
    cuts: Counter[str] = Counter()
    normalise, cut = TextCutter.normalize, TextCutter.cut

    def count_normalised(cutter: TextCutter, text: str) -> str:
        normalised[text] += 1
        return normalise(cutter, text)

    def count_cut(cutter: TextCutter, text: str) -> list[Word | Run]:
        cuts[text] += 1
        return cut(cutter, text)

    monkeypatch.setattr(TextCutter, "normalize", count_normalised)
    monkeypatch.setattr(TextCutter, "cut", count_cut)
    texts = {"title": "a plain title", "text": ["備份", "plain"], "note": "manutenção"}
    maker = DocumentMaker(SCHEMA, make_index_schema(SCHEMA))
    maker.make_document(Change(Docno(1), 1, texts)).complete()
    assert normalised == Counter(["a plain title", "備份", "plain", "manutenção"])
    assert cuts == Counter({"備份": 2, "manutenção": 2})
