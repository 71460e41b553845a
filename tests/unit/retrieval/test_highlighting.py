"""What is marked in a text is what BM25 finds a document by."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarry.retrieval.lexical.bm25 import TantivyIndex
from quarry.retrieval.lexical.marking.blocks import BLOCK_CHARACTERS
from quarry.retrieval.lexical.marking.highlighting import Mark, QueryMarker
from quarry.retrieval.text_query import Occurrence, Term, TermKind
from quarry.schema import Field, FieldType, Schema
from quarry.types import Change, Docno

LANGUAGES = ["en", "pt", "de", "tr", "ru", "zh", "ja", "ko", "th", "none"]
TEXTS = [
    "The foxes were running",
    "He runs, she ran",
    "Manutenção dos carros",
    "uma manutencao",
    "Äpfel und Öl",
    "aepfel, oel",
    "İSTANBUL",
    "ıstanbul Istanbul",
    "ＦＵＬＬ width ﬁne",
    "cafe\u0301 naïve",
    "поиск документов",
    "документы",
    "您可以備份您的資料",
    "備",
    "データベースの管理",
    "データ",
    "데이터베이스를 쓰다",
    "คำว่าสวัสดีครับ",
    "pizza 🍕",
    "🇩🇪 flag",
    "x",
    "",
    "...",
    "it’s Smith's",
    "a\u0301\u0302b",
    "שָׁלוֹם",
    "العربية",
    "π²",
]


@pytest.fixture(scope="module", params=LANGUAGES)
def searched(request: pytest.FixtureRequest) -> Iterator[tuple[str, TantivyIndex]]:
    """An index of all texts in one language, each a document."""
    schema = Schema((Field("text", FieldType.TEXT, language=request.param),))
    with TemporaryDirectory() as folder:
        index = TantivyIndex(Path(folder) / "i", "g", schema, heap_bytes=15_000_000)
        index.apply([Change(Docno(n), n + 1, {"text": text}) for n, text in enumerate(TEXTS)])
        index.commit(1)
        yield request.param, index
        index.close()


@given(query=st.lists(st.sampled_from([w for text in TEXTS for w in text.split()]), max_size=4).map(" ".join))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_text_is_marked_if_bm25_finds_it(searched: tuple[str, TantivyIndex], query: str) -> None:
    language, index = searched
    found = {candidate.docno for candidate in index.search(query, 100, None).candidates}
    marker = QueryMarker(query)
    marked = {n for n, text in enumerate(TEXTS) if any(m for m, _ in marker.find_marks(text, language))}
    assert found <= marked
    assert all(not text.isascii() for text in (TEXTS[n] for n in marked - found))  # pairs that are too few


def test_a_long_text_is_read_in_blocks_and_marked_in_all_of_them() -> None:
    text = "no words here " * BLOCK_CHARACTERS + "a fox"
    blocks = list(QueryMarker("fox").find_marks(text, "en"))
    assert len(blocks) > 10
    assert blocks[-1] == ([Mark(len(text) - 3, len(text), "fox")], len(text))
    assert not any(marks for marks, _ in blocks[:-1])
    unspaced = "無" * 5 * BLOCK_CHARACTERS + "備份"
    assert [m for marks, _ in QueryMarker("備份").find_marks(unspaced, "zh") for m in marks] == [
        Mark(len(unspaced) - 2, len(unspaced), "備份")
    ]


@pytest.mark.parametrize("before", range(2 * BLOCK_CHARACTERS - 3, 2 * BLOCK_CHARACTERS + 1))
@pytest.mark.parametrize(
    ("filling", "text", "language"), [("無", "備份", "zh"), ("ก", "สวัสดี", "th"), ("x, ", "a fox.", "en")]
)
def test_what_lies_across_two_blocks_is_marked(before: int, filling: str, text: str, language: str) -> None:
    whole = (filling * before)[:before] + text + filling * BLOCK_CHARACTERS
    marks = [m for found, _ in QueryMarker(text).find_marks(whole, language) for m in found]
    alone = [m for found, _ in QueryMarker(text).find_marks(text, language) for m in found]
    assert [(m.start - before, m.end - before) for m in marks] == [(m.start, m.end) for m in alone]


def test_a_phrase_across_two_blocks_is_marked_once() -> None:
    text = "no " * (BLOCK_CHARACTERS // 3) + "red fox " * 3 + "no " * BLOCK_CHARACTERS
    marks = [
        m for ms, _ in QueryMarker([Term("red fox", TermKind.PHRASE)]).find_marks(text, "en") for m in ms
    ]
    assert [text[m.start : m.end] for m in marks] == ["red", "fox"] * 3


@pytest.mark.parametrize(
    ("term", "text", "marked"),
    [
        (Term("man", TermKind.PREFIX), "Mañana manual, umano", ["Mañana", "manual"]),
        (Term("espresso", TermKind.FUZZY, distance=1), "ESPRESO y expreso", ["ESPRESO"]),
        (Term("espresso", TermKind.FUZZY), "ESPRESO y expreso", ["ESPRESO", "expreso"]),
        (Term("rojo zap", TermKind.PREFIX), "zapato rojo", ["zapato", "rojo"]),
        (Term("備份", TermKind.PREFIX), "備份", ["備份"]),
        (Term("manana roja", TermKind.PHRASE), "mañana roja, mañana", ["mañana", "roja"]),
        (
            Term("x", others=("zapato rojo", "bota")),
            "rojo, bota, zapatos rojos",
            ["bota", "zapatos", "rojos"],
        ),
    ],
)
def test_each_kind_of_term_is_marked_as_it_is_found(term: Term, text: str, marked: list[str]) -> None:
    ((marks, _),) = QueryMarker([term]).find_marks(text, "es")
    assert [text[mark.start : mark.end] for mark in marks] == marked


LONG = "x" * 256
"""A word that is too long for an index."""


@pytest.mark.parametrize(
    ("term", "marked"),
    [
        (Term(f"red {LONG}"), ["red"]),
        (Term(f"hat-{LONG}", occurs=Occurrence.REQUIRED), []),
        (Term(f"{LONG} hat", TermKind.PHRASE), []),
        (Term(f"{LONG}-ha", TermKind.PREFIX), []),
        (Term(f"{LONG}-hats", TermKind.FUZZY, distance=1), []),
        (Term("red", others=(f"{LONG} hat",)), ["red"]),
    ],
)
def test_a_term_with_a_word_that_is_too_long_marks_what_it_finds(term: Term, marked: list[str]) -> None:
    text = f"red {LONG} hat"
    marks = [mark for found, _ in QueryMarker([term]).find_marks(text, "en") for mark in found]
    assert [text[mark.start : mark.end] for mark in marks] == marked
