from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarry.documents import passages
from quarry.documents.catalog import PassagePolicy
from quarry.documents.passages import PassageCutter, SourceText, build_passage_texts
from quarry.models.encoder import TransformerEncoder

WORDS = st.sampled_from(
    [
        "the",
        "bado",
        "tari",
        "nolo",
        "xyzzy",
        "a",
        "e.g.",
        "3.14",
        "U.S.",
        "don't",
        "É",
        "中文",
        "😀",
        "\x00",
        "\ud800",
    ]
)
GAPS = st.sampled_from([" ", " ", " ", ". ", "! ", "\n", "\n\n", "  ", "", ",", "\u00a0"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=250).map(lambda pairs: "".join(w + g for w, g in pairs))
TITLES = st.one_of(st.just(""), st.text("abc de", max_size=20), TEXTS)
POLICIES = st.builds(
    PassagePolicy, max_tokens=st.sampled_from([0, 32, 48]), overlap_tokens=st.sampled_from([0, 5, 15])
)


def _tokens(encoder: TransformerEncoder, text: str) -> int:
    return len(encoder.find_token_spans([text])[0])


@given(title=TITLES, text=TEXTS, policy=POLICIES)
@settings(deadline=None, max_examples=150)
def test_every_passage_is_read_whole(
    encoder: TransformerEncoder, title: str, text: str, policy: PassagePolicy
) -> None:
    source = SourceText(title, text)
    (cut,) = PassageCutter(encoder, policy).cut([source])
    room = (policy.max_tokens or encoder.info.max_tokens) - 2
    assert all(_tokens(encoder, passage) <= room for passage in build_passage_texts(source, cut))


@given(title=TITLES, text=TEXTS, policy=POLICIES)
@settings(deadline=None, max_examples=150)
def test_passages_cover_the_text_in_order(
    encoder: TransformerEncoder, title: str, text: str, policy: PassagePolicy
) -> None:
    cutter = PassageCutter(encoder, policy)
    (cut,) = cutter.cut([SourceText(title, text)])
    covered = 0
    for start, end in cut.spans:
        assert not text[covered:start].strip()
        covered = end
    assert not text[covered:].strip()
    for before, after in pairwise(cut.spans):
        assert before[0] < after[0]
        assert before[1] < after[1]
    assert cutter.cut([SourceText(title, text)]) == [cut]


@given(text=TEXTS, overlap=st.sampled_from([5, 15]))
@settings(deadline=None, max_examples=60)
def test_no_more_than_the_overlap_is_repeated(encoder: TransformerEncoder, text: str, overlap: int) -> None:
    (cut,) = PassageCutter(encoder, PassagePolicy(32, overlap)).cut([SourceText("", text)])
    for (_, end), (start, _) in pairwise(cut.spans):
        assert start >= end or _tokens(encoder, text[start:end]) <= overlap


def test_cuts_are_at_sentences_and_repeat_whole_ones(encoder: TransformerEncoder) -> None:
    sentences = [f"The bado {word} is nolo to the tari. " for word in "abcdefgh"]
    source = SourceText("", "".join(sentences))
    size = _tokens(encoder, sentences[0])
    policy = PassagePolicy(3 * size + 2 if 3 * size >= 30 else 32, size)
    (cut,) = PassageCutter(encoder, policy).cut([source])
    found = build_passage_texts(source, cut)
    assert all(passage.startswith("The bado") and passage.endswith("tari.") for passage in found)
    for before, after in pairwise(found):
        assert before.endswith(after.split(". ")[0] + ".")


@pytest.mark.parametrize(
    ("title", "text", "count"), [("", "", 0), (" \n", "\t", 0), ("bado", "", 1), ("", "a", 1)]
)
def test_a_document_without_words_has_no_passages(
    encoder: TransformerEncoder, title: str, text: str, count: int
) -> None:
    (cut,) = PassageCutter(encoder, PassagePolicy()).cut([SourceText(title, text)])
    assert len(cut.spans) == count


def test_a_short_document_is_one_passage_with_its_title_in_front(encoder: TransformerEncoder) -> None:
    source = SourceText.from_pieces("Bado", ["The nolo.", "And tari."])
    (cut,) = PassageCutter(encoder, PassagePolicy()).cut([source])
    assert build_passage_texts(source, cut) == ["Bado\nThe nolo.\n\nAnd tari."]


def test_a_long_title_leaves_half_of_each_passage_to_the_text(encoder: TransformerEncoder) -> None:
    source = SourceText("bado " * 100, "the tari " * 100)
    (cut,) = PassageCutter(encoder, PassagePolicy()).cut([source])
    for passage in build_passage_texts(source, cut)[:-1]:
        title, text = passage.split("\n", 1)
        assert _tokens(encoder, text) >= _tokens(encoder, title) > 0


@given(title=st.text("ab ", max_size=30), text=TEXTS)
@settings(deadline=None, max_examples=60)
@example(title="", text="a" * 100_000)
@example(title="", text="the bado. " * 50_000)
def test_the_first_passage_alone_is_the_first_of_all(
    encoder: TransformerEncoder, title: str, text: str
) -> None:
    (every,) = PassageCutter(encoder, PassagePolicy()).cut([SourceText(title, text)])
    (first,) = PassageCutter(encoder, PassagePolicy(first_only=True)).cut([SourceText(title, text)])
    assert first.spans == every.spans[:1]


def test_no_document_has_more_passages_than_the_stores_can_number(
    encoder: TransformerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "MAX_PASSAGES", 3)
    (cut,) = PassageCutter(encoder, PassagePolicy()).cut([SourceText("", "the bado. " * 500)])
    assert len(cut.spans) == 3


def test_blocks_do_not_show(encoder: TransformerEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceText("bado", "The tari is nolo, and the bado is to.\n" * 60)
    cutter = PassageCutter(encoder, PassagePolicy())
    whole = cutter.cut([source])
    monkeypatch.setattr(passages, "BLOCK_CHARACTERS", 200)
    assert cutter.cut([source]) == whole


def test_the_scope_tells_policies_and_encoders_apart(encoder: TransformerEncoder) -> None:
    policies = [PassagePolicy(), PassagePolicy(32, 5), PassagePolicy(32, 6), PassagePolicy(first_only=True)]
    scopes = {PassageCutter(encoder, policy).scope for policy in policies}
    assert len(scopes) == len(policies)
    assert all(encoder.info.fingerprint in scope for scope in scopes)
