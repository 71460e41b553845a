"""Copies of a text are found whatever its case and white space, and whether or not it is read whole."""

from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.miner.small import make_corpus

BEGINNINGS = st.sampled_from(
    ["", "same beginning " * 8, "SAME  beginning\t" * 8, " " * 300 + "late", "Straße", "STRASSE"]
)
ENDS = st.text(alphabet="aA bß\n\u00a0", max_size=6)


def plain(text: str) -> str:
    return "".join(c for c in text.strip().casefold() if c not in " \t\n\r\f\v")


def test_a_document_without_a_letter_or_digit_is_known() -> None:
    corpus = make_corpus(["red fruit", "", " \n", "?! --", "5", "水"])
    assert corpus.wordless.tolist() == [1, 2, 3]
    assert corpus.telling.tolist() == [True, False, False, False, True, True]


@given(st.lists(st.builds("".join, st.tuples(BEGINNINGS, ENDS)), max_size=12))
@example(["x" * 64 + " y", "X" * 64 + "y", "x" * 64 + "z", "", " "])
def test_documents_of_a_group_have_the_same_text(texts: list[str]) -> None:
    read = [plain(text) for text in texts]
    expected = [read.index(text) if text else number for number, text in enumerate(read)]
    assert make_corpus(texts).groups.tolist() == expected
