"""Where no vector was compared, a re-ranker reads the passage that matches the query by words."""

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.search.fakes import FixedDocuments

from quarry.documents.passages import SourceText, cut_passages_by_words
from quarry.ranking.ranking import RankedDocument
from quarry.search.matching_passage import find_matching_passage
from quarry.search.reranking import BestPassages
from quarry.types import Docno, Fields

LONG = SourceText(
    "Bicycles",
    " ".join(f"Sentence number {n} is about wheels and frames." for n in range(60))
    + " A puncture is mended with glue. "
    + " ".join(f"Sentence number {n} is about brakes and lamps." for n in range(60)),
)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("red fruit", 2),
        ("the FRUITS", 2),
        ("ｒｅｄ", 0),
        ("the red", 0),
        ("picking", 1),
        ("nothing of this", 0),
        ("?", 0),
        ("", 0),
    ],
)
def test_the_passage_with_most_rare_words_is_read_and_the_first_of_equal_ones(query: str, place: int) -> None:
    assert find_matching_passage(query, ["the red car", "the red pick", "the red fruit"]) == place


def test_a_word_counts_once_a_passage_and_a_rare_one_for_more() -> None:
    assert find_matching_passage("red fruit", ["red red red", "red", "fruit", "red"]) == 2


def test_a_word_begins_where_no_letter_stands_before_it() -> None:
    assert find_matching_passage("rent", ["different current", "a rent"]) == 1
    assert find_matching_passage("水果", ["我的车", "红色的水果很好"]) == 1


@given(query=st.text(max_size=20), passages=st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_any_texts_have_a_passage(query: str, passages: list[str]) -> None:
    assert 0 <= find_matching_passage(query, passages) < len(passages)


def test_fifty_documents_take_some_milliseconds() -> None:
    """Five are usual. The time of the processor counts, for the machine may do other things, too."""
    passages = [f"sentence number {n} is about wheels and frames and lamps. " * 10 for n in range(10)]
    started = thread_time()
    for _ in range(50):
        find_matching_passage("how do I mend the puncture of a wheel at night", passages)
    assert thread_time() - started < 0.25


def test_a_document_that_no_encoder_reads_is_cut_by_words_with_its_title_before_each() -> None:
    passages = cut_passages_by_words(LONG)
    assert len(passages) > 5
    assert all(passage.startswith("Bicycles\n") for passage in passages)
    assert max(len(passage.split()) for passage in passages) <= 97
    assert "puncture" in passages[find_matching_passage("mend a puncture", passages)]
    for sentence in ("number 0 is about wheels", "number 59 is about lamps".replace("lamps", "brakes")):
        assert any(sentence in passage for passage in passages)
    assert cut_passages_by_words(SourceText("Title", "")) == ["Title"]
    assert cut_passages_by_words(SourceText("", " \n")) == []


async def test_a_search_reads_what_was_compared_and_else_what_matches() -> None:
    documents = FixedDocuments({n: {"text": str(n)} for n in (1, 2, 3)})

    async def passages(fields: list[Fields]) -> list[list[str]]:
        return [["red car", "blue fruit"] if one["text"] != "3" else [] for one in fields]

    ranked = [
        RankedDocument(Docno(1), "d1", 1, 0.5),
        RankedDocument(Docno(2), "d2", 2, 0.4, passage=0),
        RankedDocument(Docno(3), "d3", 3, 0.3),
        RankedDocument(Docno(9), "gone", 4, 0.2),
    ]
    texts = await BestPassages(documents, passages).read_texts("fruit", ranked)  # type: ignore[arg-type]
    assert texts == ["blue fruit", "red car", "", ""]
