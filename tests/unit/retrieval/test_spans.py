"""Parts of a text are found in another form of it, and joined where they are one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.retrieval.lexical.analysis import build_cutter
from quarry.retrieval.lexical.folded_words import fold_text, map_spans
from quarry.retrieval.lexical.spans import align_text, join_spans

PIECES = st.sampled_from(["a", "B", " ", "é", "e\u0301", "Straße", "ﬁ", "ｶﾞ", "각", "🇩🇪", "İ", "…", "備"])
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(TEXTS, st.sampled_from(["en", "de", "tr", "none"]))
def test_an_aligned_text_is_the_text_in_its_other_form(text: str, language: str) -> None:
    for change_form in (fold_text, build_cutter(language).normalize):
        changed, places = align_text(text, change_form)
        assert changed == change_form(text)
        assert len(places) == len(changed)
        assert places == sorted(places)
        assert all(
            change_form(text[start:end]).find(changed[n]) >= 0 for n, (start, end) in enumerate(places)
        )


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("a red hat", "red", "red"),
        ("die große Straße", "strasse", "Straße"),
        ("un cafe\u0301 noir", "cafe", "cafe\u0301"),
        ("ﬁne ﬂow", "flow", "ﬂow"),
        ("ｶﾞｷﾞ", "ギ", "ｷﾞ"),
    ],
)
def test_a_folded_word_is_found_in_its_text(text: str, word: str, found: str) -> None:
    start = fold_text(text).index(fold_text(word))
    ((first, last),) = map_spans(text, [(start, start + len(fold_text(word)))])
    assert text[first:last] == found


def test_spans_that_overlap_or_meet_are_joined() -> None:
    assert join_spans([(7, 9), (0, 2), (2, 3), (5, 6), (5, 8), (4, 5)]) == [(0, 3), (4, 9)]
    assert join_spans([(1, 2), (3, 4)]) == [(1, 2), (3, 4)]
    assert join_spans([]) == []
